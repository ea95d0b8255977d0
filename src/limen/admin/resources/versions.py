"""Handlers of versions: reading, tags, retirement and evidence."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody

from limen._version import __version__
from limen.admin.requests import page_of, tags_of, window_of
from limen.admin.services import Done, Given, Services, shown
from limen.admin.strictness import declares
from limen.contracts.catalogue import Evidence, EvidenceKind, ModelVersion
from limen.contracts.contract import Contract
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.identity import LOCAL
from limen.contracts.management import Page, Retirement, TagChanges
from limen.contracts.names import is_reference, parse_model_name, parse_version
from limen.contracts.oip.platform import platform_of
from limen.contracts.openapi.document import openapi
from limen.contracts.openapi.model import ServedContract
from limen.contracts.proto.text import proto_text
from limen.contracts.strict.printable import check_text

Caller = Request[Any, Any, Any]


@get(
    "/models/{m:str}/versions",
    opt=declares("models.read", "limit", "cursor", "tag", "retired", gives=Page[ModelVersion]),
    summary="Versions, newest first",
)
async def list_versions(
    request: Caller,
    m: FromPath[str],
    services: Given,
    limit: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
    tag: FromQuery[list[str] | None] = None,
    retired: FromQuery[str | None] = None,
) -> Response[bytes]:
    """Return a page of the versions of a model."""
    name, window = parse_model_name(m, "model"), window_of(request, limit, cursor, of_numbers=True)
    tags = tags_of(tag)
    if retired not in {None, "true", "false"}:
        raise InvalidArgument.at("retired", "must be true or false", Reason.INVALID_PARAMETER)
    found = await services.read(
        lambda s: s.registry.versions(
            name,
            before=window.before,
            limit=window.limit + 1,
            tags=tags,
            include_retired=retired == "true",
        )
    )
    return shown(page_of(request, window, found, [str(version.number) for version in found]))


@get(
    "/models/{m:str}/versions/{n:str}",
    opt=declares("models.read", gives=ModelVersion),
    summary="One version",
)
async def show_version(m: FromPath[str], n: FromPath[str], services: Given) -> Response[bytes]:
    """Return a version by its number or an alias."""
    return shown(await find_version(services, m, n))


@patch(
    "/models/{m:str}/versions/{n:str}",
    opt=declares("models.tag", gives=ModelVersion, on_revision=True),
    summary="Set tags of a version",
)
async def tag_version(
    request: Caller, m: FromPath[str], n: FromPath[str], data: JSONBody[TagChanges], services: Given
) -> Response[bytes]:
    """Set tags, and remove those that are null."""
    name, number = _named(m, n)
    return await services.change(
        request,
        lambda c, catalogue, expected: Done(
            catalogue.stores.registry.set_tags(c, name, number, data.tags, expected=expected, by=LOCAL.id)
        ),
    )


@post(
    "/models/{m:str}/versions/{n:str}/retire",
    opt=declares("models.retire", gives=ModelVersion, on_revision=True),
    status_code=200,
    summary="Retire a version",
)
async def retire(
    request: Caller, m: FromPath[str], n: FromPath[str], data: JSONBody[Retirement], services: Given
) -> Response[bytes]:
    """Retire a version that nothing names."""
    name, number = _named(m, n)
    check_text(data.reason, "reason")
    return await services.change(
        request,
        lambda c, catalogue, expected: Done(
            catalogue.retire(c, name, number, data.reason, expected=expected, by=LOCAL.id)
        ),
    )


@post(
    "/models/{m:str}/versions/{n:str}/restore",
    opt=declares("models.retire", gives=ModelVersion, on_revision=True),
    status_code=200,
    summary="Restore a retired version",
)
async def restore(request: Caller, m: FromPath[str], n: FromPath[str], services: Given) -> Response[bytes]:
    """Restore a retired version."""
    name, number = _named(m, n)
    return await services.change(
        request,
        lambda c, catalogue, expected: Done(
            catalogue.stores.registry.restore(c, name, number, expected=expected, by=LOCAL.id)
        ),
    )


@get(
    "/models/{m:str}/versions/{n:str}/evidence",
    opt=declares("models.read", "limit", "cursor", "kind", gives=Page[Evidence]),
    summary="Evidence",
)
async def list_evidence(
    request: Caller,
    m: FromPath[str],
    n: FromPath[str],
    services: Given,
    limit: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
    kind: FromQuery[str | None] = None,
) -> Response[bytes]:
    """Return a page of the evidence about a version, newest first."""
    window = window_of(request, limit, cursor, of_numbers=True)
    if kind is not None and kind not in set(EvidenceKind):
        known = ", ".join(EvidenceKind)
        raise InvalidArgument.at("kind", f"must be one of {known}", Reason.INVALID_PARAMETER)
    version = await find_version(services, m, n)
    wanted = EvidenceKind(kind) if kind else None
    every = await services.read(lambda s: s.registry.evidence(version.model, version.number, wanted))
    newest_first = [e for e in reversed(every) if not window.before or e.id < window.before]
    found = newest_first[: window.limit + 1]
    return shown(page_of(request, window, found, [str(evidence.id) for evidence in found]))


@get(
    "/models/{m:str}/versions/{n:str}/contract",
    opt=declares("models.read", gives=Contract),
    summary="Its contract",
)
async def contract(m: FromPath[str], n: FromPath[str], services: Given) -> Response[bytes]:
    """Return the contract of a version."""
    return shown((await find_version(services, m, n)).contract)


@get(
    "/models/{m:str}/versions/{n:str}/openapi",
    opt=declares("models.read", gives=dict[str, Any]),
    summary="Its OpenAPI document",
)
async def openapi_of(m: FromPath[str], n: FromPath[str], services: Given) -> Response[bytes]:
    """Return the OpenAPI document of a version, as a server gives it that serves it under the model's name."""
    version = await find_version(services, m, n)
    served = ServedContract(version.contract, str(version.number), platform_of(version.backend), can_stream=False)
    title = version.contract.title or version.model
    return shown(openapi([served], server_version=__version__, title=title))


@get(
    "/models/{m:str}/versions/{n:str}/proto",
    opt=declares("models.read", gives=str, media_type="text/plain"),
    media_type="text/plain",
    summary="Its .proto file",
)
async def proto_of(m: FromPath[str], n: FromPath[str], services: Given) -> Response[str]:
    """Return the typed Protobuf file of a version."""
    version = await find_version(services, m, n)
    return Response(proto_text(version.contract), media_type="text/plain; charset=utf-8")


HANDLERS = (
    list_versions, show_version, tag_version, retire, restore, list_evidence, contract, openapi_of, proto_of,
)  # fmt: skip


async def find_version(services: Services, m: str, n: str) -> ModelVersion:
    """Return the version that a path names by number or alias."""
    name = parse_model_name(m, "model")
    if not is_reference(n):
        text = "must be the number of a version or an alias"
        raise InvalidArgument.at("version", text, Reason.INVALID_VERSION)
    return await services.read(lambda s: s.registry.resolve(name, n))


def _named(m: str, n: str) -> tuple[str, int]:
    return parse_model_name(m, "model"), int(parse_version(n, "version"))
