"""Strict checks of management requests: declared parameters only, and typed bodies in strict JSON.

Whatever is not declared is refused. `before` runs ahead of every handler.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException
from msgspec import inspect

from limen.admin.requests import deadline_of
from limen.contracts.catalogue import Alias, Evidence, Model, ModelVersion
from limen.contracts.contract import Json
from limen.contracts.endpoint import Endpoint
from limen.contracts.errors import InvalidArgument, Reason, Violation
from limen.contracts.strict import json as strict_json
from limen.storage.idempotency import ensure_key

T = TypeVar("T")
MAX_JSON_BYTES: Final = 4 << 20
"""The longest JSON body; a spec of an endpoint has about a kibibyte."""
JSON_TYPE: Final = "application/json"
DECLARED: Final = "declared"
READ_ONLY: Final = frozenset(
    {field for kind in (Model, ModelVersion, Alias, Evidence, Endpoint) for field in kind.__struct_fields__}
    | {"id", "parent", "roles", "sha256", "tenant"}
)
"""What only the server sets, by whatever name a caller may try (B76)."""
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,63}", re.ASCII)
_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_EMPTY: Final = frozenset({b"", b"{}"})


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler says about itself: what it is not declared to take is refused."""

    permission: str
    """What a caller needs once callers are known."""
    query: tuple[str, ...]
    """Parameters of the path."""
    gives: Any = None
    """Type of the answer; None for nothing."""
    media_type: str = JSON_TYPE
    """Of the answer."""
    may_be_new: bool = False
    """Whether it answers 201 for what was not there before."""
    on_revision: bool = False
    """Whether it heeds `If-Match` and `If-None-Match`."""
    takes_package: bool = False
    """Whether its body is a package, which it reads itself."""


def declares(permission: str, *query: str, **more: Any) -> dict[str, Declared]:
    """Return the options of a handler: a `Declared`, under the name where it is looked for."""
    return {DECLARED: Declared(permission=permission, query=query, **more)}


async def before(request: Request[Any, Any, Any]) -> None:
    """Refuse parameters that the path does not take, and a body that is not strict JSON of its type.

    Raises:
        InvalidArgument: with the path of every mistake.
        HTTPException: 415; the body is said to be something else.
    """
    handler = request.route_handler
    declared: Declared = handler.opt[DECLARED]
    _check_parameters(request, declared.query)
    _check_headers(request.headers)
    if declared.takes_package:
        return
    body = await request.body()
    data = handler.parsed_fn_signature.parameters.get("data")
    if data is not None:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
            raise HTTPException(status_code=415)
        convert(strict_json.parse(body), data.annotation)
    elif body.strip() not in _EMPTY:
        raise InvalidArgument.at("body", "is not taken here", Reason.UNKNOWN_FIELD)


def convert(value: Json, kind: type[T]) -> T:
    """Return a decoded body as what it must be.

    Raises:
        InvalidArgument: READ_ONLY or UNKNOWN_FIELD with all such keys, else INVALID_FIELD.
    """
    unknown = list(_unknown(value, inspect.type_info(kind), ""))
    if unknown:
        reason = Reason.READ_ONLY if any(key in READ_ONLY for _, key in unknown) else Reason.UNKNOWN_FIELD
        raise InvalidArgument.of([_refused(path, key) for path, key in unknown], reason)
    try:
        return msgspec.convert(value, kind)
    except msgspec.MsgspecError as exc:
        raise _invalid(exc) from exc


def _check_headers(headers: Mapping[str, str]) -> None:
    """Refuse a body that would have to be decoded first, and headers that say something else than they may on any path."""
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HTTPException(status_code=415)
    deadline_of(headers)
    if (key := headers.get("idempotency-key")) is not None:
        ensure_key(key)


def _check_parameters(request: Request[Any, Any, Any], known: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            shown = name if _KEY.fullmatch(name) else "?"
            raise InvalidArgument.at(shown, "is not a parameter of this path", Reason.INVALID_PARAMETER)
        if name in seen and name != "tag":
            raise InvalidArgument.at(name, "may be given only once", Reason.INVALID_PARAMETER)
        seen.add(name)


def _unknown(value: Json, kind: inspect.Type, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and name of every key that its struct does not have."""
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _unknown(value, one, path)
    elif isinstance(kind, inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in kind.fields}
        for key, item in value.items():
            where = f"{path}.{key}" if path else key
            if key in fields:
                yield from _unknown(item, fields[key], where)
            else:
                yield (where if _KEY.fullmatch(key) else f"{path}.?".lstrip(".")), key


def _refused(path: str, key: str) -> Violation:
    return Violation(path, "is set by the server and cannot be sent" if key in READ_ONLY else "is unknown")


def _invalid(exc: msgspec.MsgspecError) -> InvalidArgument:
    """Return what is wrong with a body, by msgspec's word, which names types and no values but one."""
    text = str(exc)
    found = _AT.search(text)
    path, text = (found[1], text[: found.start()]) if found else ("", text)
    if text.startswith("Invalid enum value"):
        text = "is not one of the allowed values"
    return InvalidArgument.at(path or "body", text[:1].lower() + text[1:])
