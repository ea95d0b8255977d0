"""Handlers of versions: reading, tags, retirement, evidence and files."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from litestar import Request, Response, get, patch, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Stream

from limen import __version__
from limen.admin.requests import page_of, tags_of, window_of
from limen.admin.services import ANYBODY, Services, shown
from limen.contracts.catalogue import Evidence, EvidenceKind, ModelVersion
from limen.contracts.contract import Contract
from limen.contracts.errors import InvalidArgument, NotFound, Reason
from limen.contracts.management import PACKAGE_TYPE, Page, Retirement, TagChanges
from limen.contracts.names import parse_model_name, parse_version
from limen.contracts.openapi import openapi
from limen.contracts.openapi_model import ServedContract
from limen.contracts.proto import proto_text
from limen.serving.metadata import platform_of

Caller = Request[Any, Any, Any]
_CHUNK = 1 << 20


@get("/models/{m:str}/versions", responses={200: ResponseSpec(Page[ModelVersion])}, summary="Versions, newest first")
async def list_versions(
    request: Caller,
    m: str,
    services: Services,
    limit: str | None = None,
    cursor: str | None = None,
    tag: list[str] | None = None,
    retired: str | None = None,
) -> Response[bytes]:
    """Return a page of the versions of a model."""
    name, window, tags = parse_model_name(m, "model"), window_of(request, limit, cursor), tags_of(tag)
    if retired not in {None, "true", "false"}:
        raise InvalidArgument.at("retired", "must be true or false", Reason.INVALID_PARAMETER)
    found = await services.read(
        lambda s: s.registry.versions(
            name,
            before=int(window.after or 0),
            limit=window.limit + 1,
            tags=tags,
            include_retired=retired == "true",
        )
    )
    return shown(page_of(request, window, found, [str(version.number) for version in found]))


@get("/models/{m:str}/versions/{n:str}", responses={200: ResponseSpec(ModelVersion)}, summary="One version")
async def show_version(m: str, n: str, services: Services) -> Response[bytes]:
    """Return a version by its number or an alias."""
    return shown(await _version(services, m, n))


@patch("/models/{m:str}/versions/{n:str}", responses={200: ResponseSpec(ModelVersion)}, summary="Set tags of a version")
async def tag_version(request: Caller, m: str, n: str, data: TagChanges, services: Services) -> Response[bytes]:
    """Set tags, and remove those that are null."""
    name, number = _named(m, n)
    return await services.change(
        request,
        lambda c, catalogue, seen: catalogue.stores.registry.set_tags(
            c, name, number, data.tags, expected=seen.expected, by=ANYBODY
        ),
    )


@post(
    "/models/{m:str}/versions/{n:str}/retire",
    status_code=200,
    responses={200: ResponseSpec(ModelVersion)},
    summary="Take a version out of use",
)
async def retire(request: Caller, m: str, n: str, data: Retirement, services: Services) -> Response[bytes]:
    """Take a version out of use that nothing names."""
    name, number = _named(m, n)
    return await services.change(
        request,
        lambda c, catalogue, seen: catalogue.retire(c, name, number, data.reason, expected=seen.expected, by=ANYBODY),
    )


@post(
    "/models/{m:str}/versions/{n:str}/restore",
    status_code=200,
    responses={200: ResponseSpec(ModelVersion)},
    summary="Bring a retired version back",
)
async def restore(request: Caller, m: str, n: str, services: Services) -> Response[bytes]:
    """Bring a retired version back."""
    name, number = _named(m, n)
    return await services.change(
        request,
        lambda c, catalogue, seen: catalogue.stores.registry.restore(
            c, name, number, expected=seen.expected, by=ANYBODY
        ),
    )


@get(
    "/models/{m:str}/versions/{n:str}/evidence", responses={200: ResponseSpec(Page[Evidence])}, summary="What was found"
)
async def list_evidence(
    request: Caller,
    m: str,
    n: str,
    services: Services,
    limit: str | None = None,
    cursor: str | None = None,
    kind: str | None = None,
) -> Response[bytes]:
    """Return a page of the evidence about a version, newest first."""
    window = window_of(request, limit, cursor)
    if kind is not None and kind not in set(EvidenceKind):
        known = ", ".join(EvidenceKind)
        raise InvalidArgument.at("kind", f"must be one of {known}", Reason.INVALID_PARAMETER)
    version = await _version(services, m, n)
    wanted = EvidenceKind(kind) if kind else None
    every = await services.read(lambda s: s.registry.evidence(version.model, version.number, wanted))
    newest_first = [e for e in reversed(every) if not window.after or e.id < int(window.after)]
    found = newest_first[: window.limit + 1]
    return shown(page_of(request, window, found, [str(evidence.id) for evidence in found]))


@get("/models/{m:str}/versions/{n:str}/contract", responses={200: ResponseSpec(Contract)}, summary="Its contract")
async def contract(m: str, n: str, services: Services) -> Response[bytes]:
    """Return the contract of a version."""
    return shown((await _version(services, m, n)).contract)


@get("/models/{m:str}/versions/{n:str}/openapi", summary="Its OpenAPI document")
async def openapi_of(m: str, n: str, services: Services) -> Response[bytes]:
    """Return the OpenAPI document of a version, as a server gives it that serves it under the model's name."""
    version = await _version(services, m, n)
    served = ServedContract(version.contract, str(version.number), platform_of(version.backend), can_stream=False)
    title = version.contract.title or version.model
    return shown(openapi([served], server_version=__version__, title=title))


@get("/models/{m:str}/versions/{n:str}/proto", media_type="text/plain", summary="Its .proto file")
async def proto_of(m: str, n: str, services: Services) -> Response[str]:
    """Return the typed Protobuf file of a version."""
    version = await _version(services, m, n)
    return Response(proto_text(version.contract), media_type="text/plain; charset=utf-8")


@get("/models/{m:str}/versions/{n:str}/archive", media_type=PACKAGE_TYPE, summary="Its archive")
async def archive_of(m: str, n: str, services: Services) -> Stream:
    """Return the archive of a version, checked against its digest before the first byte leaves."""
    version = await _version(services, m, n)
    stored = await services.read(lambda s: s.registry.archive_of(version.model, version.number))
    return await _file(services, stored.archive, PACKAGE_TYPE)


@get("/models/{m:str}/versions/{n:str}/signature", media_type="application/json", summary="Its signature")
async def signature_of(m: str, n: str, services: Services) -> Stream:
    """Return the detached signature of a version."""
    version = await _version(services, m, n)
    stored = await services.read(lambda s: s.registry.archive_of(version.model, version.number))
    if not stored.signature:
        raise NotFound("the version was published without a signature")
    return await _file(services, stored.signature, "application/json")


HANDLERS = (
    list_versions, show_version, tag_version, retire, restore, list_evidence, contract, openapi_of, proto_of, archive_of,
    signature_of,
)  # fmt: skip


def _named(m: str, n: str) -> tuple[str, int]:
    return parse_model_name(m, "model"), int(parse_version(n, "version"))


async def _version(services: Services, m: str, n: str) -> ModelVersion:
    name = parse_model_name(m, "model")
    return await services.read(lambda s: s.registry.resolve(name, n))


async def _file(services: Services, key: str, media_type: str) -> Stream:
    services.staging.mkdir(parents=True, exist_ok=True)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=".send-", dir=services.staging))
    try:
        target = folder / "blob"
        await services.read(lambda s: s.blobs.fetch(key, target))
        size = target.stat().st_size
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    digest = b64encode(bytes.fromhex(key)).decode()
    headers = {"content-length": str(size), "content-digest": f"sha-256=:{digest}:"}
    return Stream(_chunks(folder), media_type=media_type, headers=headers)


async def _chunks(folder: Path) -> AsyncIterator[bytes]:
    try:
        with (folder / "blob").open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk
    finally:
        shutil.rmtree(folder, ignore_errors=True)
