"""The OpenAPI 3.1 document of a server, generated from the contracts of its models.

Paths are concrete: every model has its own operations with its own types and examples, so that a generated client, a form in
a browser or a test tool knows the fields without reading anything else. Pure: the gateway serves what `openapi` returns.
Operations of one model are in `contracts.openapi.model`, the shared parts in `contracts.openapi.parts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from limen.contracts.openapi import parts
from limen.contracts.openapi.jsonschema import DIALECT, Schema, prose
from limen.contracts.openapi.model import ServedContract, model_paths, model_schemas

__all__ = ["ServedContract", "default_versions", "openapi"]

_SERVER_TAG: Final = "server"
_ABOUT: Final = """\
Two dialects of one thing: the **record API** (`/v1`, rows of named fields, as TensorFlow Serving, KServe V1 and Vertex AI
clients speak it) and the **Open Inference Protocol** (`/v2`, tensors, as Triton and KServe V2 clients speak it).

Requests are checked against the model's contract. A refused request gets `{"error", "code", "request_id", "details"}`: a text
for people, a code for programs, and every mistake with its path; values that were sent are never repeated.

`infer` also speaks the binary tensor data extension: `Content-Type: application/octet-stream`, the length of the JSON part in
`Inference-Header-Content-Length`, and raw little-endian tensors after it. Bodies may be `gzip` or `deflate` encoded.
`X-Request-Timeout-Ms` says how long an answer is worth waiting for; `X-Request-Id` names the request in logs and answers.
Models that answer in parts send them as server-sent events as soon as each is ready. The same models answer over gRPC.
"""


def openapi(contracts: Sequence[ServedContract], *, server_version: str, title: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document for these models: of a whole server, or of one model.

    Args:
        contracts: what is served; several versions of a model may be there.
        server_version: the version of Limen.
        title: the title of the document.
    """
    defaults = default_versions(contracts)
    paths = _server_paths()
    schemas: dict[str, Schema] = dict(parts.SCHEMAS)
    for served in contracts:
        schemas |= model_schemas(served)
        if served in defaults:
            paths |= model_paths(served, versioned=False)
        paths |= model_paths(served, versioned=True)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": DIALECT,
        "info": {"title": prose(title), "version": server_version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [
            *(_tag(served) for served in defaults),
            {"name": _SERVER_TAG, "description": "Health, lists and documents of the whole server."},
        ],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas, "responses": parts.RESPONSES},
    }


def default_versions(contracts: Sequence[ServedContract]) -> list[ServedContract]:
    """Return for every model the version that answers when none is named: the one said to do so, or else the newest."""
    newest: dict[str, ServedContract] = {}
    for served in contracts:
        known = newest.get(served.contract.name)
        if known is None or _order(served) > _order(known):
            newest[served.contract.name] = served
    return list(newest.values())


def _order(served: ServedContract) -> tuple[bool, int, str]:
    version = served.version
    return (served.is_default, int(version) if version.isdecimal() else 0, version)


def _tag(served: ServedContract) -> dict[str, Any]:
    contract = served.contract
    facts = {
        "Owner": contract.owner,
        "Licence": contract.licence,
        "Task": contract.task,
        "95 % of answers within": f"{contract.slo.p95_ms:g} ms" if contract.slo.p95_ms else "",
        "Default deadline": f"{contract.slo.deadline_ms:g} ms" if contract.slo.deadline_ms else "",
        "Streams": "`:stream`, `generate_stream`, and over gRPC ModelStreamInfer" if served.can_stream else "",
    }
    lines = [f"- {name}: {prose(value)}" for name, value in facts.items() if value]
    text = "\n\n".join(filter(None, (prose(contract.title), prose(contract.description), "\n".join(lines))))
    return {"name": contract.name, "description": text or contract.name}


def _server_paths() -> dict[str, Any]:
    def get(path: str, name: str, summary: str, answer: dict[str, Any], *errors: int) -> tuple[str, dict[str, Any]]:
        operation = {
            "operationId": name,
            "tags": [_SERVER_TAG],
            "summary": summary,
            "responses": {"200": answer, **parts.errors(405, 500, 503, *errors)},
        }
        return path, {"get": operation}

    ready = get(
        "/v2/health/ready", "serverReady", "Is every model ready?", parts.answer("Ready", "The server is ready.")
    )
    ready[1]["get"]["responses"]["503"] = parts.answer("Ready", "Not yet.", parts.ERROR_REF)
    return dict(
        (
            get("/v2", "serverMetadata", "About the server", parts.answer("ServerMetadata", "Name and extensions.")),
            get("/v2/health/live", "serverLive", "Is the server alive?", parts.answer("Live", "It is.")),
            ready,
            get("/v2/models", "listModels", "Names of the models", parts.answer("ModelList", "The names.")),
            get("/v1/models", "listRecordModels", "Names of the models", parts.answer("ModelList", "The names.")),
            get("/openapi.json", "openapi", "This document", parts.document("application/json", "object")),
            get("/docs", "docs", "The documentation page", parts.document("text/html", "string")),
        )
    )
