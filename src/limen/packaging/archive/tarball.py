"""The tar layout of a package archive: one way to write it, and only that way is read.

A `.limen` file is an uncompressed USTAR archive of plain files whose headers hold a name and a size and fixed values for
everything else. So the bytes are the same wherever it is built (compressed bytes would depend on the library), there is no
compression ratio to attack, any tar tool can list it, and one changed bit anywhere is seen. The reader makes the header it
expects and compares; links, devices, long-name records and sparse files do not exist in this layout.
Pure apart from reading the stream it is given. Called by `packaging.archive.package`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Final

import msgspec

from limen.contracts.errors import InvalidPackage, Reason, Violation
from limen.packaging.paths import MAX_FILES, invalid, path_problem, shown

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
"""Two empty blocks end an archive; nothing follows them."""
_NAME_BYTES: Final = 100
_KINDS: Final = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder entry",
    b"6": "a named pipe",
    b"S": "a sparse file",
    **dict.fromkeys([b"x", b"g", b"L", b"K", b"X"], "an extended header"),
}


class Member(msgspec.Struct, frozen=True):
    """One file in an archive."""

    path: str
    size: int
    offset: int
    """Where its content begins."""

    @property
    def end(self) -> int:
        """Where the next header begins."""
        return self.offset + self.size + padding(self.size)


def padding(size: int) -> int:
    """Return how many zero bytes follow a content of this size."""
    return -size % BLOCK


def encode_header(path: str, size: int) -> bytes:
    """Return the one header that a file of this path and size has."""
    name = path.encode()
    prefix = b""
    if len(name) > _NAME_BYTES:
        # The first place to cut that leaves a short enough name; path rules guarantee that there is one.
        cut = name.index(b"/", len(name) - _NAME_BYTES - 1)
        prefix, name = name[:cut], name[cut + 1 :]
    block = b"".join(
        [
            name.ljust(_NAME_BYTES, b"\0"),
            b"0000644\0" + b"0000000\0" * 2,  # mode, owner, group
            b"%011o\0" % size,
            b"00000000000\0",  # time
            b" " * 8,  # where the checksum goes
            b"0" + bytes(100) + b"ustar\0" + b"00",  # plain file, no link
            bytes(64) + b"0000000\0" * 2,  # names of owner and group, device numbers
            prefix.ljust(155, b"\0") + bytes(12),
        ]
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def read_members(file: IO[bytes], total: int) -> Iterator[Member]:
    """Yield the files of an archive in order; contents are not read.

    Args:
        file: a stream that can seek.
        total: its size in bytes.

    Raises:
        InvalidPackage: UNSAFE_ARCHIVE at the first header that `limen build` does not write, and when the archive is cut off.
    """
    position = 0
    for _ in range(MAX_FILES + 2):
        file.seek(position)
        block = file.read(BLOCK)
        if block == END[:BLOCK]:
            if file.read(BLOCK + 1) != END[:BLOCK]:
                raise _refused("", "it does not end where its last file ends")
            return
        member = _decode_header(block, position, total)
        yield member
        file.seek(member.offset + member.size)
        if any(file.read(padding(member.size))):
            raise _refused(member.path, "is followed by bytes that belong to no file")
        position = member.end
    raise _refused("", f"it has more than {MAX_FILES} files")


def _decode_header(block: bytes, position: int, total: int) -> Member:
    if len(block) < BLOCK or block[257:262] != b"ustar":
        if position == 0:
            raise _refused("", "it is not a package that `limen build` made")
        raise _refused("", "it is cut off" if len(block) < BLOCK else "it is damaged")
    path = _path(block)
    kind = _KINDS.get(block[156:157])
    if kind is not None:
        raise _refused(path, f"is {kind}; a package may contain regular files only")
    if problem := path_problem(path):
        raise _refused(path, problem)
    digits = block[124:135]
    if not (digits.isdigit() and b"8" not in digits and b"9" not in digits):
        raise _refused(path, "has an unreadable size")
    member = Member(path, int(digits, 8), position + BLOCK)
    if member.end > total:
        raise _refused(path, "is larger than the rest of the archive")
    if encode_header(path, member.size) != block:
        raise _refused(path, "has a header that `limen build` does not write")
    return member


def _path(block: bytes) -> str:
    prefix = block[345:500].rstrip(b"\0")
    name = block[:_NAME_BYTES].rstrip(b"\0")
    try:
        return (prefix + b"/" + name if prefix else name).decode()
    except UnicodeDecodeError as exc:
        raise _refused("", "a file's name is not UTF-8") from exc


def _refused(path: str, text: str) -> InvalidPackage:
    return invalid("the archive is refused", [Violation(shown(path), text)], Reason.UNSAFE_ARCHIVE)
