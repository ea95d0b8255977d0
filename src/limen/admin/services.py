"""What the management API works on, and how a change is made once and only once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request, Response
from sqlalchemy import Connection

from limen.admin.requests import Precondition, deadline_of, precondition_of
from limen.contracts.contract import Json
from limen.contracts.endpoint import EndpointStatus
from limen.contracts.errors import InvalidArgument, LimenError, Reason, Stale
from limen.serving.catalogue import Catalogue
from limen.serving.publishing import Publisher
from limen.serving.stores import Stores

T = TypeVar("T")
P = TypeVar("P")
ANYBODY: Final = "anonymous"
"""Who calls, as long as nobody has to say who they are."""
KEY: Final = "idempotency-key"
JSON_TYPE: Final = "application/json"


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Everything behind the API."""

    stores: Callable[[], Stores]
    """Gives the open registry, or raises `Unavailable`."""
    publisher: Callable[[Stores], Publisher]
    """Gives what publishes to it; blocking."""
    staging: Path
    """Folder for what is uploaded."""
    max_archive_bytes: int
    changed: Callable[[], None]
    """Is told after every change."""
    statuses: Callable[[], Mapping[str, EndpointStatus]]
    """Gives what is so of the endpoints; asked in the event loop. Nothing where no server runs."""
    server: Callable[[], Json]
    """Gives what `limen status --json` shows; None where no server runs."""
    is_ready: Callable[[], bool]
    problem: Callable[[], str]
    """Says why the server does not follow the registry; nothing when it does."""
    reload: Callable[[], Awaitable[None]]
    """Looks at the registry anew."""

    @property
    def catalogue(self) -> Catalogue:
        """The rules over the open registry."""
        return Catalogue(self.stores())

    async def read(self, work: Callable[[Stores], T]) -> T:
        """Return what a blocking look at the registry finds."""
        return await asyncio.to_thread(lambda: work(self.stores()))

    async def change(
        self,
        request: Request[Any, Any, Any],
        work: Callable[[Connection, Catalogue, Precondition], P],
        *,
        answer: Callable[[P], object] | None = None,
        status: Callable[[P], int] | None = None,
    ) -> Response[bytes]:
        """Make a change in one transaction and return its answer; a request that was made before is answered as it was then.

        Args:
            request: with its headers and body.
            work: makes the change.
            answer: gives the body's value; what `work` gives when None.
            status: gives the status; 200, or 204 for no body, when None.
        """
        body = await request.body()
        key = Key.of(request, body)
        precondition, deadline = precondition_of(request.headers), deadline_of(request.headers)

        def run() -> tuple[int, bytes, bool]:
            stores = self.stores()
            if (replayed := key.begin(stores)) is not None:
                return (*replayed, True)
            try:
                with stores.database.transaction() as connection:
                    deadline.check()
                    found = work(connection, Catalogue(stores), precondition)
                    value = found if answer is None else answer(found)
                    code = status(found) if status is not None else 204 if value is None else 200
                    said = b"" if value is None else msgspec.json.encode(value)
                    key.finish(stores, connection, code, said)
                    deadline.check()
            except BaseException as exc:
                key.failed(stores, exc)
                raise
            return code, said, False

        code, said, is_replayed = await asyncio.to_thread(run)
        if not is_replayed:
            self.changed()
        return answered(said, code, is_replayed=is_replayed)


class Key(msgspec.Struct, frozen=True):
    """The idempotency key of one request; empty when it has none."""

    key: str
    operation: str
    body_digest: str

    @classmethod
    def of(cls, request: Request[Any, Any, Any], body: bytes, *, is_required: bool = False) -> Key:
        """Return the key that a request carries.

        Raises:
            InvalidArgument: IDEMPOTENCY; it has to have one.
        """
        given = request.headers.get(KEY, "")
        if is_required and not given:
            raise InvalidArgument("the header Idempotency-Key is required here", reason=Reason.IDEMPOTENCY)
        return cls(given, f"{request.method} {request.url.path}", hashlib.sha256(body).hexdigest() if given else "")

    def begin(self, stores: Stores) -> tuple[int, bytes] | None:
        """Note that the request is worked on, and return the answer that it had before."""
        if not self.key:
            return None
        with stores.database.transaction() as connection:
            seen = stores.idempotency.begin(connection, ANYBODY, self.key, self.operation, self.body_digest)
        return None if seen is None else (seen.status, seen.body)

    def finish(self, stores: Stores, connection: Connection, status: int, body: bytes) -> None:
        """Keep the answer, in the transaction of the change."""
        if self.key:
            stores.idempotency.finish(connection, ANYBODY, self.key, status, body)

    def failed(self, stores: Stores, exc: BaseException) -> None:
        """Let the same key try again: nothing was changed."""
        if self.key and not isinstance(exc, asyncio.CancelledError):
            try:
                with stores.database.transaction() as connection:
                    stores.idempotency.forget(connection, ANYBODY, self.key)
            except LimenError:
                # It is given up after a while; the first failure is what the caller has to hear of.
                return


def answered(body: bytes, status: int, *, is_replayed: bool = False) -> Response[bytes]:
    """Return an answer whose body is JSON already, with the entity tag of what it shows."""
    headers = {"idempotency-replayed": "true"} if is_replayed else {}
    if body and (revision := _revision_in(body)):
        headers["etag"] = f'"{revision}"'
    return Response(body, status_code=status, media_type=JSON_TYPE, headers=headers)


def shown(value: object, status: int = 200) -> Response[bytes]:
    """Return an answer that shows a value."""
    return answered(msgspec.json.encode(value), status)


def ensure_absent(precondition: Precondition, *, is_there: bool) -> None:
    """Refuse to replace what must not be there yet. Raises `Stale`."""
    if precondition.must_be_new and is_there:
        raise Stale


class _WithRevision(msgspec.Struct):
    revision: int = 0


def _revision_in(body: bytes) -> int:
    try:
        return msgspec.json.decode(body, type=_WithRevision).revision
    except msgspec.MsgspecError:
        return 0
