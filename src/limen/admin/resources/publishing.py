"""The publish handler: receives a package, has it verified and tested, and registers it as a version or refuses it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from limen.admin.requests import deadline_of
from limen.admin.services import Given, Key, Services, answered
from limen.admin.strictness import convert, declares
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.identity import LOCAL
from limen.contracts.inference import Deadline
from limen.contracts.management import HEAD_LENGTH, MAX_HEAD_BYTES, PACKAGE_TYPE, Published, PublishHead
from limen.contracts.names import parse_alias, parse_model_name
from limen.contracts.strict import json as strict_json
from limen.contracts.strict.printable import check_text
from limen.publishing.staging import staging_folder
from limen.publishing.verification import Step, Submission
from limen.registry.tags import check_tags
from limen.runtime.sandbox.exchange import Stop
from limen.storage.faults import file_faults

Caller = Request[Any, Any, Any]
_FOLDER: Final = "the folder for packages that arrive"
_LAST_STEP: Final = "register"
_LENGTH = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


@post(
    "/models/{m:str}/versions",
    opt=declares("models.publish", takes_package=True, gives=Published, may_be_new=True),
    request_max_body_size=None,
    status_code=201,
    summary="Publish a package",
)
async def publish(request: Caller, m: FromPath[str], services: Given) -> Response[bytes]:
    """Verify a package, try it in a process of its own, and register it as the next version."""
    name = parse_model_name(m, "model")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != PACKAGE_TYPE:
        raise HTTPException(status_code=415)
    services.publishing.ensure_free()
    key, deadline = Key.of(request, b"", is_required=True), deadline_of(request.headers)
    head_length = _head_length(request)
    async with _own_folder(services.staging) as folder:
        received = await _received(request, folder, head_length, services.max_archive_bytes())
        head = _head(received.head)
        if head.sha256.lower() not in {"", received.sha256}:
            raise InvalidArgument.at("sha256", "is not the SHA-256 of the archive received", Reason.DATA_SIZE)
        digest = hashlib.sha256(received.head + received.sha256.encode()).hexdigest()
        submission = _submission(name, head, received, folder)
        sent = msgspec.structs.replace(key, body_digest=digest)

        def work(stop: Stop) -> Response[bytes]:
            return _published(services, sent, submission, deadline, stop)

        return await services.publishing.run(request, deadline, work)


HANDLERS = (publish,)


class _Received(msgspec.Struct, frozen=True):
    """What came in the body."""

    head: bytes
    archive: Path
    sha256: str


def _head_length(request: Caller) -> int:
    given = request.headers.get(HEAD_LENGTH)
    if given is None:
        return 0
    if _LENGTH.fullmatch(given) is None or int(given) > MAX_HEAD_BYTES:
        text = f"must be a number of bytes up to {MAX_HEAD_BYTES}"
        raise InvalidArgument.at("Limen-Head-Length", text, Reason.INVALID_HEADER)
    return int(given)


async def _received(request: Caller, folder: Path, head_length: int, limit: int) -> _Received:
    """Write the archive to disk as it comes."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit + head_length:
        raise HTTPException(status_code=413)
    head, size, digest = bytearray(), 0, hashlib.sha256()
    archive = folder / "package.limen"
    with file_faults(_FOLDER), archive.open("wb") as file:
        async for chunk in request.stream():
            missing = max(head_length - len(head), 0)
            head += chunk[:missing]
            size += len(chunk) - missing if len(chunk) > missing else 0
            if size > limit:
                raise HTTPException(status_code=413)
            await asyncio.to_thread(_take, file, digest, chunk[missing:])
    if len(head) < head_length:
        raise InvalidArgument.at("Limen-Head-Length", "is larger than the whole body", Reason.INVALID_HEADER)
    if not size:
        raise InvalidArgument("the body has no archive", reason=Reason.EMPTY_BODY)
    return _Received(bytes(head), archive, digest.hexdigest())


def _take(file: IO[bytes], digest: Any, data: bytes) -> None:
    digest.update(data)
    file.write(data)


def _head(data: bytes) -> PublishHead:
    if not data:
        return PublishHead()
    value = strict_json.parse(data)
    if isinstance(value, dict) and isinstance(value.get("lineage"), dict) and "parent" in value["lineage"]:
        raise InvalidArgument.at("lineage.parent", "is set by the server and cannot be sent", Reason.READ_ONLY)
    head = convert(value, PublishHead)
    if head.alias:
        parse_alias(head.alias)
    check_tags(head.tags)
    for line in ("source", "data", "code"):
        check_text(getattr(head.lineage, line), f"lineage.{line}")
    return head


def _submission(name: str, head: PublishHead, received: _Received, folder: Path) -> Submission:
    signature: Path | None = None
    if head.signature:
        signature = folder / "package.limen.sig"
        signature.write_bytes(head.signature)
    return Submission(
        archive=received.archive,
        model=name,
        signature=signature,
        number=head.number,
        lineage=head.lineage,
        tags=head.tags,
        aliases=(head.alias,) if head.alias else (),
        by=LOCAL.id,
        same_answers=head.same_answers,
    )


def _published(services: Services, key: Key, submission: Submission, deadline: Deadline, stop: Stop) -> Response[bytes]:
    def heed(step: Step) -> None:
        # What is registered is done, however long it took.
        if step.name != _LAST_STEP:
            deadline.check()
            stop.check()

    stores = services.stores()
    with key.begun(stores) as replayed:
        if replayed is not None:
            return answered(replayed.body, replayed.status, is_replayed=True)
        done = services.publisher(stores).publish(submission, heed, stop)
        evidence = tuple(stores.registry.evidence(done.version.model, done.version.number))
        body = msgspec.json.encode(Published(version=done.version, is_new=done.is_new, evidence=evidence))
        status = 201 if done.is_new else 200
        with stores.database.transaction() as connection:
            key.finish(stores, connection, status, body)
    services.changed()
    return answered(body, status)


@asynccontextmanager
async def _own_folder(parent: Path) -> AsyncIterator[Path]:
    """Give a folder for one upload; it is gone afterwards, also when this process is killed."""
    stack = ExitStack()
    try:
        with file_faults(_FOLDER):
            folder = await asyncio.to_thread(stack.enter_context, staging_folder(parent))
        yield folder
    finally:
        await asyncio.to_thread(stack.close)
