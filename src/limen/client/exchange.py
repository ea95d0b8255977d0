"""Requests to the management API: values in, values out. Used only by `client.management`, which knows the paths."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import msgspec

from limen.client.link import Content, HttpLink
from limen.client.retries import Attempt, Retrying, RetryPolicy
from limen.client.uploads import save
from limen.contracts.errors import Internal
from limen.contracts.management import Page

T = TypeVar("T")
Params = Sequence[tuple[str, str]]

_ROOT: Final = "/api/v1"
TRANSFER_TIMEOUT_S: Final = 3600.0
"""For what moves or checks a whole package."""
KEY_HEADER: Final = "idempotency-key"


class Exchange:
    """One management API; whatever it answers is decoded here."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        transport: httpx.AsyncBaseTransport | None,
        timeout_s: float | None,
        policy: RetryPolicy,
    ) -> None:
        """Connect when the first request is made."""
        self._link = HttpLink(url, headers, transport)
        self._timeout_s = timeout_s
        self._retrying = Retrying(policy)

    async def get(self, path: str, kind: type[T], params: Params = ()) -> T:
        """Return what is at a path."""
        return decoded(await self._send("GET", path, params=params), kind)

    async def raw(self, path: str) -> bytes:
        """Return the bytes at a path."""
        return await self._send("GET", path)

    async def page(self, path: str, kind: type[T], options: Mapping[str, Any], more: Params = ()) -> Page[T]:
        """Return a page of a list; the options are `ListOptions`."""
        params = [(name, str(options[name])) for name in ("limit", "cursor") if name in options]
        tags = [("tag", f"{key}={value}") for key, value in options.get("tags", {}).items()]
        return await self.get(path, Page[kind], [*params, *tags, *more])  # type: ignore[valid-type]  # a type at run time

    async def change(self, method: str, path: str, kind: type[T], body: object, expected: int | None = None) -> T:
        """Change something, and return what it is now.

        Args:
            method: POST, PUT or PATCH.
            path: the path.
            kind: what is answered.
            body: what is wanted.
            expected: the revision that was seen; 0 when there must be nothing yet, None for whatever there is.
        """
        headers = {"content-type": "application/json", KEY_HEADER: uuid.uuid4().hex, **_condition(expected)}
        return decoded(await self._send(method, path, content=msgspec.json.encode(body), headers=headers), kind)

    async def delete(self, path: str, expected: int | None) -> None:
        """Remove something; `expected` as for `change`."""
        await self._send("DELETE", path, headers={KEY_HEADER: uuid.uuid4().hex, **_condition(expected)})

    async def upload(
        self, path: str, kind: type[T], body: Callable[[], AsyncIterator[bytes]], headers: Mapping[str, str]
    ) -> T:
        """Send a body as it is read, anew for every attempt, and return the answer."""

        async def once(attempt: Attempt) -> bytes:
            return (await self._link.send("POST", _ROOT + path, attempt, content=body(), headers=headers)).content

        return decoded(await self._retrying.run(once, self._transfer_s), kind)

    async def download(self, path: str, target: Path) -> Path:
        """Write the file at a path to `target` and return that."""

        async def once(attempt: Attempt) -> Path:
            heads: list[httpx.Response] = []
            pieces = self._link.receive("GET", _ROOT + path, attempt, started=heads.append)
            async with aclosing(pieces):
                await save(pieces, target, lambda digest: _is_named(digest, heads[0].headers))
            return target

        return await self._retrying.run(once, self._transfer_s)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._link.aclose()

    @property
    def _transfer_s(self) -> float | None:
        return None if self._timeout_s is None else max(self._timeout_s, TRANSFER_TIMEOUT_S)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        content: Content = None,
        headers: Mapping[str, str] | None = None,
        params: Params = (),
    ) -> bytes:
        async def once(attempt: Attempt) -> bytes:
            response = await self._link.send(
                method, _ROOT + path, attempt, content=content, headers=headers, params=list(params)
            )
            return response.content

        return await self._retrying.run(once, self._timeout_s)


def decoded(body: bytes, kind: type[T]) -> T:
    """Return the value in an answer. Keys that this release does not know are left out.

    Raises:
        Internal: it is something else.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as exc:
        raise Internal("the answer does not match the management API") from exc


def _is_named(digest: str, headers: Mapping[str, str]) -> bool:
    """Return whether a digest is the one in `Content-Digest`, if there is one. Source: RFC 9530."""
    named = headers.get("content-digest", "")
    return not named or named == f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"


def _condition(expected: int | None) -> dict[str, str]:
    if expected is None:
        return {}
    return {"if-match": f'"{expected}"'} if expected else {"if-none-match": "*"}
