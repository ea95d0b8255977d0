"""The services behind the management API's handlers, and idempotent execution of changes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency
from sqlalchemy import Connection

from limen.admin.requests import deadline_of, expected_of
from limen.admin.strictness import JSON_TYPE
from limen.admin.workers import Workers
from limen.contracts.catalogue import Alias, Model, ModelVersion
from limen.contracts.conditions import Condition
from limen.contracts.contract import Json
from limen.contracts.endpoint import Endpoint, EndpointStatus
from limen.contracts.errors import InvalidArgument, LimenError, Reason
from limen.contracts.identity import LOCAL
from limen.management.catalogue import Catalogue
from limen.management.stores import Stores
from limen.publishing.publisher import Publisher
from limen.storage.idempotency import StoredAnswer, ensure_key

T = TypeVar("T")
KEY: Final = "idempotency-key"


class Done(msgspec.Struct, frozen=True):
    """What a change is answered with."""

    value: object = None
    status: int = 200


NOTHING: Final = Done(status=204)


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Everything behind the API."""

    stores: Callable[[], Stores]
    """Gives the open registry, or raises `Unavailable`."""
    publisher: Callable[[Stores], Publisher]
    """Gives what publishes to it; blocking."""
    staging: Path
    """Folder for what is uploaded."""
    max_archive_bytes: Callable[[], int]
    """Gives the size of the largest archive."""
    publishing: Workers
    """Threads that verify packages and try them out."""
    changed: Callable[[], None]
    """Is told after every change."""
    statuses: Callable[[], Mapping[str, EndpointStatus]]
    """Gives what is so of the endpoints; asked in the event loop. Nothing where no server runs."""
    server: Callable[[], Json]
    """Gives what `limen status --json` shows; None where no server runs."""
    conditions: Callable[[], tuple[Condition, ...]]
    """Gives what is so of the server; nothing where none runs."""
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
        work: Callable[[Connection, Catalogue, int | None], Done],
        *,
        first: Callable[[Catalogue], None] = lambda _: None,
    ) -> Response[bytes]:
        """Make a change in one transaction and return its answer; a request that was made before is answered as it was then.

        Args:
            request: with its headers and body.
            work: makes the change, given the revision that the caller insists on.
            first: looks before the transaction whether the change can be made; it may take its time.
        """
        key = Key.of(request, await request.body())
        expected, deadline = expected_of(request.headers), deadline_of(request.headers)

        def run() -> tuple[int, bytes, bool]:
            stores = self.stores()
            with key.begun(stores) as replayed:
                if replayed is not None:
                    return replayed.status, replayed.body, True
                first(Catalogue(stores))
                with stores.database.transaction() as connection:
                    deadline.check()
                    done = work(connection, Catalogue(stores), expected)
                    body = b"" if done.value is None else msgspec.json.encode(done.value)
                    key.finish(stores, connection, done.status, body)
                    deadline.check()
            return done.status, body, False

        status, body, is_replayed = await asyncio.to_thread(run)
        if not is_replayed:
            self.changed()
        return answered(body, status, is_replayed=is_replayed, is_tagged=True)


Given: TypeAlias = NamedDependency[Services]
"""How a handler asks for the services."""


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
        given = request.headers.get(KEY)
        if given is not None:
            ensure_key(given)
        elif is_required:
            raise InvalidArgument("the header Idempotency-Key is required here", reason=Reason.IDEMPOTENCY)
        digest = hashlib.sha256(body).hexdigest() if given else ""
        return cls(given or "", f"{request.method} {request.url.path}", digest)

    @contextmanager
    def begun(self, stores: Stores) -> Iterator[StoredAnswer | None]:
        """Note for the block that the request is worked on, and give the answer that it had before.

        When the block fails nothing was changed, and the same key may try again.

        Raises:
            InvalidArgument: KEY_REUSED.
            NotAllowedNow: IDEMPOTENCY; it is worked on already.
        """
        if not self.key:
            yield None
            return
        with stores.database.transaction() as connection:
            seen = stores.idempotency.begin(connection, LOCAL.id, self.key, self.operation, self.body_digest)
        try:
            yield seen
        except BaseException:
            # What cannot be forgotten now is given up after a while; the caller has to hear of the first failure.
            with suppress(LimenError), stores.database.transaction() as connection:
                stores.idempotency.forget(connection, LOCAL.id, self.key)
            raise

    def finish(self, stores: Stores, connection: Connection, status: int, body: bytes) -> None:
        """Keep the answer, in the transaction of the change."""
        if self.key:
            stores.idempotency.finish(connection, LOCAL.id, self.key, status, body)


def answered(body: bytes, status: int, *, is_replayed: bool = False, is_tagged: bool = False) -> Response[bytes]:
    """Return the answer to a change, whose body is JSON already.

    Args:
        body: what the answer says.
        status: its status.
        is_replayed: whether the change was made before.
        is_tagged: whether the body shows one thing with a revision, which is its entity tag.
    """
    headers = {"idempotency-replayed": "true"} if is_replayed else {}
    if is_tagged and body:
        headers["etag"] = f'"{msgspec.json.decode(body, type=_Tagged).revision}"'
    return Response(body, status_code=status, media_type=JSON_TYPE, headers=headers)


def shown(value: object) -> Response[bytes]:
    """Return an answer that shows a value."""
    headers = {"etag": f'"{value.revision}"'} if isinstance(value, (Model, ModelVersion, Alias, Endpoint)) else {}
    return Response(msgspec.json.encode(value), media_type=JSON_TYPE, headers=headers)


class _Tagged(msgspec.Struct):
    revision: int = 1
    """As in `Model`, `ModelVersion` and `Endpoint`, whose first revision is left out."""
