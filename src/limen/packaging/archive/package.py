"""Packages on disk: builds an archive from a folder, and opens folders and archives safely.

Opening an archive checks, in this order: its layout (`packaging.archive.tarball`), its index (`packaging.archive.index`), every file against
the index, the manifest (`packaging.manifest.decoder`) and what the files really are (`packaging.formats.sniff`). Only then does it appear in the
cache, under its digest and in one step. Called by the composition root, the CLI and later by the registry.
Not here: whether a signature is genuine (`packaging.signing.signatures`), and asking whether code may be trusted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol

import msgspec

from limen.contracts.errors import InvalidPackage, Reason, Unavailable, Violation
from limen.contracts.strict.yaml import MAX_BYTES
from limen.packaging.archive.index import (
    MAX_FILE_BYTES,
    MAX_INDEX_BYTES,
    FileEntry,
    Index,
    decode_index,
    digest_of,
    encode_index,
)
from limen.packaging.archive.statement import MAX_SIGNATURE_BYTES, check_statement
from limen.packaging.archive.tarball import END, Member, encode_header, padding, read_members
from limen.packaging.formats.sniff import scan_folder
from limen.packaging.manifest.decoder import decode_manifest, read_manifest
from limen.packaging.manifest.values import MANIFEST_NAME, Manifest
from limen.packaging.paths import INDEX_NAME, invalid, list_files, signature_path
from limen.storage.files import appearing, hash_of, sync_folder
from limen.storage.private import make_private_folder

SUFFIX: Final = ".limen"
PACKAGES: Final = "packages"
"""Folder of a cache in which archives are unpacked, each under its digest."""
_CHUNK: Final = 1 << 20


class Package(msgspec.Struct, frozen=True):
    """A package that can be loaded: its files lie in a folder and were checked."""

    root: Path
    """The folder with the files; not to be written to."""
    manifest: Manifest
    digest: str
    """64 hexadecimal digits that name the content."""
    origin: Path
    """What was opened."""


class Built(msgspec.Struct, frozen=True):
    """An archive that was made."""

    path: Path
    digest: str
    files: tuple[FileEntry, ...]
    size: int
    """Bytes of the archive."""
    is_signed: bool = False
    """Whether the folder's signature was put beside it."""


class Inspection(msgspec.Struct, frozen=True):
    """What `limen inspect` shows."""

    kind: Literal["folder", "archive"]
    origin: str
    """The path that was inspected."""
    digest: str
    manifest: Manifest
    files: tuple[FileEntry, ...]

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON values; how the model is run is whole, with the defaults of what model.yaml leaves out."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        manifest = found["manifest"]
        manifest["serving"] = _whole(self.manifest.serving)
        manifest["contract"]["major"] = self.manifest.contract.major
        manifest["contract"]["batching"] = _whole(self.manifest.contract.batching)
        manifest.setdefault("fallback", None)
        return found


def _whole(settings: msgspec.Struct) -> dict[str, Any]:
    """Return settings as plain values, those that are at their default included."""
    found = {name: getattr(settings, name) for name in settings.__struct_fields__}
    return {name: _whole(value) if isinstance(value, msgspec.Struct) else value for name, value in found.items()}


def build(folder: Path, target_dir: Path, file_name: str = "") -> Built:
    """Make one file of a package folder; the same content gives the same bytes on every machine.

    The archive appears under its name only when it is complete and on disk. The signature of the folder, if it has one, is put
    beside it, with `.sig` after its name.

    Args:
        folder: the package.
        target_dir: where the file is put.
        file_name: what it is called; `NAME-DIGEST.limen` if empty.

    Raises:
        InvalidPackage: a bad manifest, files a package may not hold, or a file that changed meanwhile.
        PermissionDenied: SIGNATURE, when the folder's signature is about other files.
    """
    manifest = read_manifest(folder)
    scan_folder(folder, manifest)
    files = hash_folder(folder)
    digest = digest_of(files)
    name = manifest.contract.name
    signature = read_signature(folder)
    if signature is not None:
        check_statement(signature, name, files)
    target_dir.mkdir(parents=True, exist_ok=True)
    target = target_dir / (file_name or f"{name}-{digest[:12]}{SUFFIX}")
    with appearing(target) as out:
        _write_archive(out, folder, encode_index(name, files), files)
        size = out.tell()
    if signature is not None:
        with appearing(signature_path(target)) as out:
            out.write(signature)
    return Built(target, digest, files, size, is_signed=signature is not None)


def read_signature(package: Path) -> bytes | None:
    """Return the signature of a package folder or archive, or None when there is none. Of one that is too large, its beginning."""
    path = signature_path(package)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(MAX_SIGNATURE_BYTES + 1)


def _write_archive(out: IO[bytes], folder: Path, index: bytes, files: Sequence[FileEntry]) -> None:
    out.write(encode_header(INDEX_NAME, len(index)) + index + bytes(padding(len(index))))
    for file in files:
        out.write(encode_header(file.path, file.size))
        with (folder / file.path).open("rb") as content:
            _copy(content, file, out)
            if content.read(1):
                raise _damaged(file.path, "changed while it was read")
        out.write(bytes(padding(file.size)))
    out.write(END)


def hash_folder(folder: Path) -> tuple[FileEntry, ...]:
    """Return every file of a package folder with its size and SHA-256, in order of their paths."""
    return tuple(_hash_file(folder, path) for path in list_files(folder))


def _hash_file(folder: Path, path: str) -> FileEntry:
    sha256, size = hash_of(folder / path), (folder / path).stat().st_size
    if size > MAX_FILE_BYTES:
        raise invalid("the package is too large", [Violation(path, f"has more than {MAX_FILE_BYTES} bytes")])
    return FileEntry(path, sha256, size)


def open_package(path: Path, cache_dir: Path) -> Package:
    """Return a package that can be loaded: a folder as it lies there, an archive unpacked into the cache.

    An archive is read and compared as a whole each time, even when its content is in the cache already, and so is the cached
    content; a damaged copy in the cache is replaced.

    Args:
        path: a package folder or a `.limen` file.
        cache_dir: where archives are unpacked, as `packages/DIGEST`.

    Raises:
        InvalidPackage: there is nothing at `path`, or what is there breaks a rule; nothing is left behind in the cache.
        Unavailable: the cache cannot be written.
    """
    if path.is_dir():
        manifest = read_manifest(path)
        scan_folder(path, manifest)
        return Package(path, manifest, digest_of(hash_folder(path)), path)
    with _open_archive(path) as (file, index, members):
        root = cache_dir / PACKAGES / index.digest
        if _holds(root, index):
            _extract(file, index, members, None)
            manifest = read_manifest(root)
            return Package(root, manifest, index.digest, path)
        try:
            manifest = _unpack(file, index, members, root)
        except OSError as exc:
            text = "cannot unpack the package: the cache folder is not writable"
            raise Unavailable(text, reason=Reason.STORAGE) from exc
    return Package(root, manifest, index.digest, path)


def inspect(path: Path) -> Inspection:
    """Return what a package holds, after checking it as `open_package` does, apart from what its files really are."""
    if path.is_dir():
        files = hash_folder(path)
        return Inspection("folder", str(path), digest_of(files), read_manifest(path), files)
    with _open_archive(path) as (file, index, members):
        _extract(file, index, members, None)
        contents = _Contents(file, members)
        manifest = decode_manifest(contents.read(MANIFEST_NAME, MAX_BYTES + 1), files=contents)
    return Inspection("archive", str(path), index.digest, manifest, index.files)


@contextmanager
def _open_archive(path: Path) -> Iterator[tuple[IO[bytes], Index, list[Member]]]:
    if not path.is_file():
        raise InvalidPackage("no package found: the path is neither a folder nor a file")
    with path.open("rb") as file:
        index, members = read_index(file, os.fstat(file.fileno()).st_size)
        yield file, index, members


def read_index(file: IO[bytes], total: int) -> tuple[Index, list[Member]]:
    """Return the index of an archive and its files, which agree; the contents of the files are not looked at yet.

    Raises:
        InvalidPackage: UNSAFE_ARCHIVE, for a layout or an index that `limen build` does not write.
    """
    members = list(read_members(file, total))
    first = members[0] if members else None
    if first is None or first.path != INDEX_NAME or first.size > MAX_INDEX_BYTES:
        raise _refused(INDEX_NAME, f"must be the first file and have at most {MAX_INDEX_BYTES} bytes")
    file.seek(first.offset)
    index = decode_index(file.read(first.size))
    listed = [(f.path, f.size) for f in index.files]
    if listed != [(m.path, m.size) for m in members[1:]]:
        raise _refused(INDEX_NAME, "does not list exactly the files of the archive, in their order")
    return index, members[1:]


class Sink(Protocol):
    """Something bytes go to."""

    def write(self, data: bytes, /) -> object:
        """Take the bytes."""
        ...


def _copy(source: IO[bytes], file: FileEntry, out: Sink | None) -> None:
    """Pass one file's bytes on to `out` and refuse them at the end when they are not what the index says."""
    sha256 = hashlib.sha256()
    left = file.size
    while left and (chunk := source.read(min(left, _CHUNK))):
        sha256.update(chunk)
        left -= len(chunk)
        if out is not None:
            out.write(chunk)
    if left or sha256.hexdigest() != file.sha256:
        raise _damaged(file.path, "does not match the index: the package is damaged or was changed")


def _extract(archive: IO[bytes], index: Index, members: Sequence[Member], folder: Path | None) -> None:
    """Check every file against the index and write it below `folder`, if there is one."""
    for file, member in zip(index.files, members, strict=True):
        archive.seek(member.offset)
        if folder is None:
            _copy(archive, file, None)
            continue
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o444)
        with os.fdopen(descriptor, "wb") as out:
            _copy(archive, file, out)
            out.flush()
            os.fsync(out.fileno())


def _holds(root: Path, index: Index) -> bool:
    """Whether the cache has exactly the files of the index."""
    try:
        return root.is_dir() and hash_folder(root) == index.files
    except (InvalidPackage, OSError):
        return False


def _unpack(file: IO[bytes], index: Index, members: Sequence[Member], root: Path) -> Manifest:
    """Unpack into a staging folder, check what is there, and put it in its place in one step."""
    make_private_folder(root.parent, is_passage=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=root.parent))
    try:
        _extract(file, index, members, staging)
        manifest = read_manifest(staging)
        if manifest.contract.name != index.name:
            raise _refused(INDEX_NAME, f"has another name than {MANIFEST_NAME}")
        scan_folder(staging, manifest)
        staging.chmod(0o755)  # whoever may pass through the folder that it is in may read it
        sync_folder(staging)
        _replace_folder(staging, root, index)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest


def _replace_folder(staging: Path, root: Path, index: Index) -> None:
    if root.is_dir():
        # A damaged copy goes out of the way in one step; what runs from it keeps its open files.
        damaged = Path(tempfile.mkdtemp(prefix=".damaged-", dir=root.parent))
        root.rename(damaged / root.name)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        staging.rename(root)
    except OSError:
        # Another process was faster; its copy is as good, if it is the same.
        if not _holds(root, index):
            raise
    sync_folder(root.parent)


class _Contents:
    """The files of an archive that was checked, read in place."""

    def __init__(self, file: IO[bytes], members: Sequence[Member]) -> None:
        self._file = file
        self._members = {m.path: m for m in members}

    def has(self, path: str) -> bool:
        return path in self._members

    def read(self, path: str, limit: int) -> bytes:
        member = self._members[path]
        self._file.seek(member.offset)
        return self._file.read(min(member.size, limit))


def _damaged(path: str, text: str) -> InvalidPackage:
    return invalid("the package is damaged", [Violation(path, text)])


def _refused(path: str, text: str) -> InvalidPackage:
    return invalid("the archive is refused", [Violation(path, text)], Reason.UNSAFE_ARCHIVE)
