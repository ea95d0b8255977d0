"""Transfers packages to and from a registry: never whole in memory, and verified at both ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from limen.contracts.errors import Internal, InvalidArgument
from limen.contracts.management import HEAD_LENGTH, MAX_HEAD_BYTES, PACKAGE_TYPE, PublishHead

PIECE: Final = 1 << 18
SIGNATURE_SUFFIX: Final = ".sig"
"""Where `limen build` puts the signature of an archive: beside it."""


class Upload:
    """An archive with what is said about it, as the body of a publish request."""

    def __init__(self, archive: Path, head: bytes, size: int) -> None:
        """Made by `of`."""
        self._archive = archive
        self._head = head
        self._size = size

    @classmethod
    def of(cls, archive: Path, options: Mapping[str, Any]) -> Upload:
        """Read what has to be known before the first byte is sent: size and digest. Blocks.

        Args:
            archive: the file.
            options: `PublishOptions`.

        Raises:
            InvalidArgument: a file that cannot be read.
        """
        said = {name: options[name] for name in ("number", "alias", "lineage", "same_answers") if name in options}
        try:
            signature = _signature(archive, options.get("signature"))
            with archive.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError as exc:
            raise InvalidArgument.at("archive", "or its signature cannot be read") from exc
        head = PublishHead(sha256=digest, signature=signature, tags=dict(options.get("tags", {})), **said)
        encoded = msgspec.json.encode(head)
        if len(encoded) > MAX_HEAD_BYTES:
            raise InvalidArgument.at("signature", f"may have at most {MAX_HEAD_BYTES // 2} bytes")
        return cls(archive, encoded, size)

    @property
    def headers(self) -> dict[str, str]:
        """Media type, length, and where the head ends."""
        length = str(len(self._head) + self._size)
        return {"content-type": PACKAGE_TYPE, "content-length": length, HEAD_LENGTH: str(len(self._head))}

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body; every call begins anew."""
        yield self._head
        with await asyncio.to_thread(self._archive.open, "rb") as file:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece


async def save(pieces: AsyncIterator[bytes], target: Path, is_whole: Callable[[str], bool]) -> None:
    """Write a file that appears when it is whole.

    Args:
        pieces: its bytes.
        target: where it is to be.
        is_whole: is told the SHA-256 of what came, in hexadecimal digits.

    Raises:
        Internal: it is not whole.
        InvalidArgument: the file cannot be written.
    """
    seen = hashlib.sha256()
    try:
        handle, name = await asyncio.to_thread(tempfile.mkstemp, prefix=f".{target.name}-", dir=target.parent)
    except OSError as exc:
        raise InvalidArgument.at("target", "cannot be written") from exc
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            async for piece in pieces:
                seen.update(piece)
                await asyncio.to_thread(file.write, piece)
        if not is_whole(seen.hexdigest()):
            raise Internal("the file received does not match the registry")
        await asyncio.to_thread(staged.replace, target)
    except OSError as exc:
        raise InvalidArgument.at("target", "cannot be written") from exc
    finally:
        await asyncio.to_thread(staged.unlink, missing_ok=True)


def _signature(archive: Path, given: object) -> bytes:
    if isinstance(given, bytes):
        return given
    if given is not None:
        return Path(str(given)).read_bytes()
    beside = archive.with_name(archive.name + SIGNATURE_SUFFIX)
    return beside.read_bytes() if beside.is_file() else b""
