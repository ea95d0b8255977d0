"""The OpenAPI 3.1 document of the management API, built from the declarations of its handlers.

Not Litestar's own: it knows nothing of the preconditions, keys and errors that all paths have in common. Called by `admin.app`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, get_type_hints

import msgspec
from litestar.handlers import HTTPRouteHandler

from limen.admin.requests import MAX_TAGS, MAX_TIMEOUT_MS, PAGE
from limen.admin.strictness import DECLARED, JSON_TYPE, Declared
from limen.contracts.catalogue import EvidenceKind
from limen.contracts.contract import Json
from limen.contracts.management import (
    HEAD_LENGTH,
    MAX_HEAD_BYTES,
    MAX_PAGE,
    PACKAGE_TYPE,
    PROBLEM_TYPE,
    Problem,
    PublishHead,
)
from limen.contracts.names import ALIAS, MODEL_NAME, VERSION
from limen.storage.idempotency import MAX_KEY

Node = dict[str, Any]
_REFERENCES: Final = "#/components/schemas/{name}"
_NUMBER: Final[Node] = {"type": "string", "pattern": f"^{VERSION.pattern}$"}
_REFERENCE: Final[Node] = {"type": "string", "pattern": f"^(?:{VERSION.pattern}|{ALIAS.pattern})$"}
_NAME: Final[Node] = {"type": "string", "pattern": f"^{MODEL_NAME.pattern}$"}
_IN_PATH: Final[dict[str, Node]] = {
    "m": _NAME,
    "e": _NAME,
    "a": {"type": "string", "pattern": f"^{ALIAS.pattern}$"},
    "n": _REFERENCE,
}
_IN_QUERY: Final[dict[str, Node]] = {
    "limit": {"schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE}},
    "cursor": {"schema": {"type": "string"}, "description": "`next` of the page before."},
    "tag": {
        "schema": {"type": "array", "items": {"type": "string", "pattern": "^[^=]+="}, "maxItems": MAX_TAGS},
        "description": "KEY=VALUE; only what has all of them.",
    },
    "retired": {
        "schema": {"type": "boolean", "default": False},
        "description": "Whether retired versions are listed too.",
    },
    "kind": {"schema": {"type": "string", "enum": list(EvidenceKind)}},
    "from": {"schema": _REFERENCE, "required": True},
    "to": {"schema": _REFERENCE, "required": True},
}
_REQUEST_ID: Final[Node] = {"name": "X-Request-Id", "in": "header", "schema": {"type": "string"}}
_TIMEOUT: Final[Node] = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
    "description": "The change is abandoned if it is not complete by then.",
}
_KEY: Final[Node] = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[ -~]+$"},
    "description": "Repeating a request with the same key returns the first answer.",
}
_ON_REVISION: Final[tuple[Node, ...]] = (
    {
        "name": "If-Match",
        "in": "header",
        "schema": {"type": "string", "pattern": f'^"{VERSION.pattern}"$'},
        "description": "Apply only if this is still the current revision.",
    },
    {
        "name": "If-None-Match",
        "in": "header",
        "schema": {"const": "*"},
        "description": "Apply only if nothing exists yet.",
    },
)
_HEAD_LENGTH: Final[Node] = {
    "name": HEAD_LENGTH.title(),
    "in": "header",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_HEAD_BYTES},
    "description": "Length in bytes of the `PublishHead` (JSON) that precedes the archive in the body.",
}


def document(handlers: Iterable[HTTPRouteHandler], root: str, version: str) -> dict[str, Json]:
    """Return the document of these handlers.

    Args:
        handlers: each with a `Declared` in its options.
        root: what every path begins with.
        version: of the API.
    """
    every = list(handlers)
    declared = [_declared(handler) for handler in every]
    types = [Problem, PublishHead, *(d.gives for d in declared), *(_taken(handler) for handler in every)]
    named = [kind for kind in dict.fromkeys(types) if kind not in {None, bytes}]
    schemas, components = msgspec.json.schema_components(named, ref_template=_REFERENCES)
    known = dict(zip(named, schemas, strict=True))
    paths: dict[str, Json] = {}
    for handler in every:
        [path], [method] = handler.paths, handler.http_methods
        where = paths.setdefault(root + path.replace(":str}", "}"), {})
        where[str(method).lower()] = _operation(handler, path, str(method), known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Limen management API", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _declared(handler: HTTPRouteHandler) -> Declared:
    found: Declared = handler.opt[DECLARED]
    return found


def _taken(handler: HTTPRouteHandler) -> Any:
    return get_type_hints(handler.fn).get("data")


def _operation(handler: HTTPRouteHandler, path: str, method: str, known: dict[Any, Node]) -> Node:
    declared = _declared(handler)
    changes = method != "GET"
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _NUMBER if name == "n" and changes else _IN_PATH[name],
        }
        for name in _names_in(path)
    ]
    parameters += [{"name": name, "in": "query", **_IN_QUERY[name]} for name in declared.query]
    parameters.append(_REQUEST_ID)
    if declared.takes_package:
        parameters += [_KEY | {"required": True}, _TIMEOUT, _HEAD_LENGTH]
    elif declared.on_revision:
        parameters += [_KEY, _TIMEOUT, *_ON_REVISION]
    operation = {
        "operationId": handler.fn.__name__,
        "summary": handler.summary,
        "description": handler.fn.__doc__,
        "x-permission": declared.permission,
        "parameters": parameters,
        "responses": _responses(declared, known),
    }
    taken = _taken(handler)
    if declared.takes_package:
        described = {"description": f"A `PublishHead`, if `{HEAD_LENGTH.title()}` says so, and the archive."}
        head = {"x-head": known[PublishHead]}
        operation["requestBody"] = described | head | {"required": True, "content": {PACKAGE_TYPE: {}}}
    elif taken is not None:
        operation["requestBody"] = {"required": True, "content": {JSON_TYPE: {"schema": known[taken]}}}
    return operation


def _names_in(path: str) -> list[str]:
    return [part[1:].partition(":")[0] for part in path.split("/") if part.startswith("{")]


def _responses(declared: Declared, known: dict[Any, Node]) -> Node:
    problem = {"description": "Why not.", "content": {PROBLEM_TYPE: {"schema": known[Problem]}}}
    if declared.gives is None:
        return {"204": {"description": "Done."}, "default": problem}
    schema = {"schema": known[declared.gives]} if declared.gives in known else {}
    done: Node = {"description": "Done.", "content": {declared.media_type: schema}}
    if declared.on_revision:
        done["headers"] = {"ETag": {"schema": {"type": "string"}}}
    found = {"200": done}
    if declared.may_be_new:
        found["201"] = done | {"description": "Created."}
    return found | {"default": problem}
