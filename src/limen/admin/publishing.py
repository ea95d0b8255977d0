"""The handler of publishing: a package comes in, is verified and tried, and becomes a version or is refused."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

import msgspec
from litestar import Request, Response, post
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec

from limen.admin.problems import invalid_body
from limen.admin.services import JSON_TYPE, Key, Services, answered
from limen.contracts import strict_json
from limen.contracts.catalogue import Evidence
from limen.contracts.errors import InvalidArgument, Reason, Unavailable
from limen.contracts.management import HEAD_LENGTH, MAX_HEAD_BYTES, PACKAGE_TYPE, Published, PublishHead
from limen.contracts.names import parse_model_name
from limen.serving.verification import Submission

Caller = Request[Any, Any, Any]
_LENGTH = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


@post(
    "/models/{m:str}/versions",
    status_code=201,
    responses={
        201: ResponseSpec(Published),
        200: ResponseSpec(Published, description="This package was a version already."),
    },
    summary="Publish a package",
)
async def publish(request: Caller, m: str, services: Services) -> Response[bytes]:
    """Verify a package, try it in a process of its own, and register it as the next version."""
    name = parse_model_name(m, "model")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != PACKAGE_TYPE:
        raise HTTPException(status_code=415, detail="unsupported media type")
    key = Key.of(request, b"", is_required=True)
    head_length = _head_length(request)
    services.staging.mkdir(parents=True, exist_ok=True)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=".publish-", dir=services.staging))
    try:
        received = await _received(request, folder, head_length, services.max_archive_bytes)
        head = _head(received.head)
        if head.sha256 not in {"", received.sha256}:
            raise InvalidArgument.at("sha256", "is not the SHA-256 of what arrived", Reason.DATA_SIZE)
        key = msgspec.structs.replace(
            key, body_digest=hashlib.sha256(received.head + received.sha256.encode()).hexdigest()
        )
        submission = _submission(name, head, received, folder)
        return await asyncio.to_thread(_published, services, key, submission)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


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
        raise HTTPException(status_code=413, detail="too large")
    head, size, digest = bytearray(), 0, hashlib.sha256()
    archive = folder / "package.limen"
    try:
        with archive.open("wb") as file:
            async for chunk in _chunks(request):
                missing = head_length - len(head)
                head += chunk[:missing] if missing > 0 else b""
                rest = chunk[missing:] if missing > 0 else chunk
                size += len(rest)
                if size > limit:
                    raise HTTPException(status_code=413, detail="too large")
                await asyncio.to_thread(_take, file, digest, rest)
    except OSError as exc:
        raise Unavailable("the package cannot be stored just now", reason=Reason.STORAGE) from exc
    if len(head) < head_length:
        raise InvalidArgument.at("Limen-Head-Length", "is more than the whole body", Reason.INVALID_HEADER)
    if not size:
        raise InvalidArgument("the body has no archive", reason=Reason.EMPTY_BODY)
    return _Received(bytes(head), archive, digest.hexdigest())


def _take(file: IO[bytes], digest: Any, data: bytes) -> None:
    digest.update(data)
    file.write(data)


async def _chunks(request: Caller) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


def _head(data: bytes) -> PublishHead:
    if not data:
        return PublishHead()
    value = strict_json.parse(data)
    if isinstance(value, dict) and isinstance(value.get("lineage"), dict) and "parent" in value["lineage"]:
        raise InvalidArgument.at("lineage.parent", "is set by the server only", Reason.READ_ONLY)
    try:
        return msgspec.json.decode(data, type=PublishHead)
    except msgspec.MsgspecError as exc:
        raise invalid_body(exc) from exc


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
        by="anonymous",
    )


def _published(services: Services, key: Key, submission: Submission) -> Response[bytes]:
    stores = services.stores()
    if (replayed := key.begin(stores)) is not None:
        status, body = replayed
        return answered(body, status, is_replayed=True)
    try:
        done = services.publisher(stores).publish(submission)
        evidence: tuple[Evidence, ...] = tuple(stores.registry.evidence(done.version.model, done.version.number))
        body = msgspec.json.encode(Published(version=done.version, is_new=done.is_new, evidence=evidence))
        status = 201 if done.is_new else 200
        with stores.database.transaction() as connection:
            key.finish(stores, connection, status, body)
    except BaseException as exc:
        key.failed(stores, exc)
        raise
    services.changed()
    return Response(body, status_code=status, media_type=JSON_TYPE)
