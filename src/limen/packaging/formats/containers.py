"""Inspects zip archives and compressed files without trusting their own metadata.

Called by `packaging.formats.sniff`. Members are read from where their local header puts them and without their checksums, because that
is how careless loaders read them too: a zip with a broken checksum still gives them its pickle.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from typing import IO, Any, Final

import msgspec

from limen.packaging.formats.known import UNSAFE, Format, recognise

MAX_MEMBERS: Final = 10_000
MAX_MEMBER_BYTES: Final = 64 << 20
MAX_TOTAL_BYTES: Final = 512 << 20
_INFLATED_BYTES: Final = 1 << 20
_LOCAL_HEADER: Final = 30
_LZMA_MEMORY: Final = 256 << 20


class Finding(msgspec.Struct, frozen=True):
    """What a file is."""

    format: Format
    member: str = ""
    """The member of an archive that makes it unsafe."""
    problem: str = ""
    """Why the file could not be looked into."""


def look_into_zip(file: IO[bytes], *, is_inner: bool = False) -> Finding:
    """Return what a zip archive is, judged by its members: a skops model, a PyTorch program, NumPy arrays, or something unsafe.

    Args:
        file: the archive.
        is_inner: it is itself the member of an archive, such as the sparse matrix of a skops model, and may hold no other.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, UnicodeDecodeError):
        return Finding(Format.ARCHIVE, problem="it is broken")
    if len(infos) > MAX_MEMBERS:
        return Finding(Format.ARCHIVE, problem=f"it has more than {MAX_MEMBERS} members")
    formats: dict[str, Format] = {}
    total = 0
    for info in infos:
        data = _member(file, info)
        if data is None:
            return Finding(Format.ARCHIVE, info.filename, "a member cannot be read")
        total += len(data)
        if len(data) > MAX_MEMBER_BYTES or total > MAX_TOTAL_BYTES:
            return Finding(Format.ARCHIVE, info.filename, "it is too large to be looked into")
        found = recognise(data)
        is_nested = found is Format.ARCHIVE and not is_inner
        if is_nested and look_into_zip(io.BytesIO(data), is_inner=True).format is Format.NUMPY:
            found = Format.NUMPY
        if found in UNSAFE:
            is_torch = found is Format.PICKLE and info.filename.endswith("data.pkl")
            return Finding(Format.TORCH if is_torch else found, info.filename)
        formats[info.filename] = found
    return Finding(_judge(formats))


def _judge(formats: dict[str, Format]) -> Format:
    arrays = {name for name, found in formats.items() if found is Format.NUMPY}
    if formats.get("schema.json") is Format.JSON:
        return Format.SKOPS
    if any(name.endswith("/archive_format") for name in formats) and any(
        name.endswith("/models/model.json") and found is Format.JSON for name, found in formats.items()
    ):
        return Format.TORCH_EXPORT
    return Format.NUMPY if formats and len(arrays) == len(formats) else Format.ARCHIVE


def _member(file: IO[bytes], info: zipfile.ZipInfo) -> bytes | None:
    """Return a member's content, one byte more than allowed at most, or None when it cannot be had."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04" or info.flag_bits & 1:
        return None
    file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
    raw = file.read(min(info.compress_size, MAX_MEMBER_BYTES + 1))
    if info.compress_type == zipfile.ZIP_STORED:
        return raw
    if info.compress_type != zipfile.ZIP_DEFLATED:
        return None
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, MAX_MEMBER_BYTES + 1)
    except zlib.error:
        return None


def look_into_compressed(head: bytes) -> Finding | None:
    """Return what a compressed file holds as far as its beginning shows, or None when it is not compressed."""
    for make, errors, mark in _INFLATERS:
        if not head.startswith(mark):
            continue
        try:
            inflated = make().decompress(head, _INFLATED_BYTES)
        except errors:
            continue
        if inflated:
            found = recognise(inflated)
            return Finding(found if found is Format.PICKLE else Format.COMPRESSED)
    return None


_INFLATERS: Final[tuple[tuple[Any, Any, bytes], ...]] = (
    (lambda: zlib.decompressobj(zlib.MAX_WBITS | 32), zlib.error, b""),  # gzip and zlib
    (bz2.BZ2Decompressor, OSError, b"BZh"),
    (lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), lzma.LZMAError, b"\xfd7zXZ"),
    # The older format has no mark; these are the settings every tool writes. Any others are bytes of no known format.
    (lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY), lzma.LZMAError, b"\x5d\x00\x00"),
)
