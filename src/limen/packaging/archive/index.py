"""The list of a package's files with their digests, and the one digest that identifies the package.

Pure. The digest depends on nothing but the files' paths and contents, so the same content has the same digest on every
machine. `packaging.archive.package` writes the index into the archive as `manifest.json` and checks everything against it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from limen.contracts.errors import InvalidPackage, Reason, Violation
from limen.contracts.names import MODEL_NAME
from limen.packaging.manifest.values import MANIFEST_NAME
from limen.packaging.paths import INDEX_NAME, MAX_FILES, invalid, is_ignored, path_set_problems, shown

FORMAT: Final = 1
"""Version of the archive format."""
MAX_INDEX_BYTES: Final = 4 << 20
MAX_FILE_BYTES: Final = (8 << 30) - 1
"""What the size field of a tar header can say."""
MAX_TOTAL_BYTES: Final = 64 << 30
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a package. The keys are in alphabetical order, which makes its JSON canonical."""

    path: str
    sha256: str
    size: int


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `manifest.json` says. The keys are in alphabetical order, which makes its JSON canonical."""

    digest: str
    files: tuple[FileEntry, ...]
    format: int
    name: str
    """The model's name, as in `model.yaml`."""


def digest_of(files: Sequence[FileEntry]) -> str:
    """Return the digest of a package: SHA-256 over the canonical JSON of its files in order of their paths."""
    return hashlib.sha256(msgspec.json.encode(sorted(files, key=lambda f: f.path))).hexdigest()


def encode_index(name: str, files: Sequence[FileEntry]) -> bytes:
    """Return the content of `manifest.json`: canonical, so that there is one for each package."""
    ordered = tuple(sorted(files, key=lambda f: f.path))
    return msgspec.json.encode(Index(digest_of(ordered), ordered, FORMAT, name))


def decode_index(data: bytes) -> Index:
    """Return what a `manifest.json` says, after every check that needs nothing else.

    Raises:
        InvalidPackage: UNSAFE_ARCHIVE, when it is not exactly what `limen build` writes or names files a package may not hold.
    """
    try:
        index = msgspec.json.decode(data, type=Index)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise _refused("is not an index that `limen build` wrote") from exc
    if index.format != FORMAT:
        raise _refused(f"has format {index.format}; this version of Limen reads format {FORMAT}")
    if len(index.files) > MAX_FILES:
        raise _refused(f"lists more than {MAX_FILES} files")
    problems = list(path_set_problems(f.path for f in index.files))
    problems += [
        Violation(shown(f.path), "is a file that packages must not contain")
        for f in index.files
        if is_ignored(f.path) or f.path == INDEX_NAME
    ]
    problems += [Violation(shown(f.path), "has an impossible size or digest") for f in index.files if not _can_be(f)]
    if problems:
        raise invalid("the archive contains files it must not contain", problems, Reason.UNSAFE_ARCHIVE)
    if sum(f.size for f in index.files) > MAX_TOTAL_BYTES:
        raise _refused(f"lists more than {MAX_TOTAL_BYTES} bytes")
    if encode_index(index.name, index.files) != data or MODEL_NAME.fullmatch(index.name) is None:
        raise _refused("is inconsistent")
    if all(f.path != MANIFEST_NAME for f in index.files):
        raise _refused(f"lists no {MANIFEST_NAME}")
    return index


def _can_be(file: FileEntry) -> bool:
    return 0 <= file.size <= MAX_FILE_BYTES and _SHA256.fullmatch(file.sha256) is not None


def _refused(text: str) -> InvalidPackage:
    return invalid("the archive is refused", [Violation(INDEX_NAME, text)], Reason.UNSAFE_ARCHIVE)
