"""Handlers of the files of a version: its archive and its signature."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import IO, Any, Final

from litestar import get
from litestar.params import FromPath
from litestar.response import Stream

from limen.admin.resources.versions import find_version
from limen.admin.services import Given, Services
from limen.admin.strictness import JSON_TYPE, declares
from limen.contracts.errors import NotFound
from limen.contracts.management import PACKAGE_TYPE
from limen.management.stores import Stores
from limen.publishing.staging import staging_folder
from limen.registry.values import StoredArchive
from limen.storage.faults import file_faults, unavailable

_CHUNK: Final = 1 << 20


@get(
    "/models/{m:str}/versions/{n:str}/archive",
    opt=declares("models.read", gives=bytes, media_type=PACKAGE_TYPE),
    media_type=PACKAGE_TYPE,
    summary="Its archive",
)
async def archive_of(m: FromPath[str], n: FromPath[str], services: Given) -> Stream:
    """Return the archive of a version, checked against its digest before the first byte leaves."""
    return await _file(services, (await _stored(services, m, n)).archive, PACKAGE_TYPE)


@get(
    "/models/{m:str}/versions/{n:str}/signature",
    opt=declares("models.read", gives=dict[str, Any]),
    media_type=JSON_TYPE,
    summary="Its signature",
)
async def signature_of(m: FromPath[str], n: FromPath[str], services: Given) -> Stream:
    """Return the detached signature of a version."""
    stored = await _stored(services, m, n)
    if not stored.signature:
        raise NotFound("the version was published without a signature")
    return await _file(services, stored.signature, JSON_TYPE)


HANDLERS = (archive_of, signature_of)


async def _stored(services: Services, m: str, n: str) -> StoredArchive:
    version = await find_version(services, m, n)
    return await services.read(lambda s: s.registry.archive_of(version.model, version.number))


async def _file(services: Services, key: str, media_type: str) -> Stream:
    def fetched(stores: Stores) -> IO[bytes]:
        with file_faults("the folder for packages that are sent"), staging_folder(services.staging) as folder:
            try:
                stores.blobs.fetch(key, folder / "blob")
            except NotFound as exc:
                raise unavailable("the blob store has lost the files of this version") from exc
            # The folder goes, and the file with it as soon as it is closed: a caller who leaves leaves nothing.
            return (folder / "blob").open("rb")

    file = await services.read(fetched)
    size = os.fstat(file.fileno()).st_size
    digest = b64encode(bytes.fromhex(key)).decode()
    headers = {"content-length": str(size), "content-digest": f"sha-256=:{digest}:"}
    return Stream(_chunks(file), media_type=media_type, headers=headers)


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
