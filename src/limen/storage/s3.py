"""Blobs in an S3 store. An object becomes visible when its upload completes, so nothing is staged there.

Credentials come from the environment, a profile or the machine, as AWS's own tools find them, and are never seen here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from limen.contracts.errors import Internal, InvalidArgument, InvalidPackage, NotFound, Reason
from limen.storage import causes
from limen.storage.faults import file_faults, unavailable
from limen.storage.files import ensure_digest, fetching, hash_of

_WAIT: Final = {"connect_timeout": 5, "read_timeout": 15, "retries": {"max_attempts": 2}}
_ATTEMPTS: Final = 2
_NO_BUCKET: Final = "NoSuchBucket"
_PIECE: Final = 8 << 20


class S3Blobs:
    """Blobs as objects under a prefix of a bucket."""

    is_remote = True

    def __init__(self, url: str, *, endpoint: str = "") -> None:
        """Take `s3://bucket/prefix`; nothing is asked of the store yet.

        Args:
            url: bucket and prefix.
            endpoint: address of the service; the one of the environment or of AWS when empty.

        Raises:
            InvalidArgument: there is no bucket in the address.
            InvalidPackage: MISSING_DEPENDENCY; s3fs is not installed.
        """
        self._prefix = url.removeprefix("s3://").strip("/")
        if not self._prefix:
            raise InvalidArgument.at("blobs", "must be s3://BUCKET or s3://BUCKET/PREFIX")
        try:
            import s3fs  # type: ignore[import-untyped] # published without types
        except ModuleNotFoundError as exc:
            text = "an S3 store needs s3fs: pip install 'limen[s3]'"
            raise InvalidPackage(text, reason=Reason.MISSING_DEPENDENCY) from exc
        # Another process may put and remove objects, so what was listed before says nothing.
        self._files: Any = s3fs.S3FileSystem(
            endpoint_url=endpoint or None, config_kwargs=_WAIT, use_listings_cache=False, skip_instance_cache=True
        )
        self._files.retries = _ATTEMPTS

    def put(self, source: Path, digest: str) -> None:
        """Store a file; one that is there is replaced in one step, so that a damaged one is whole again."""
        key = self._key(digest)
        with file_faults("the file to store"):
            if hash_of(source) != digest:
                raise Internal
            size = source.stat().st_size
        with _s3_faults():
            # Always: what is there may be damaged, and an object is replaced in one step.
            self._files.put_file(str(source), key)
            if self._size(key) != size:
                self._files.rm_file(key)
                raise unavailable("the blob store did not store all of it")

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to `target`, in one step and only when it is whole."""
        key = self._key(digest)
        with file_faults("the folder to write to"), fetching(target, digest) as staging, _s3_faults():
            try:
                self._files.get_file(key, str(staging))
            except FileNotFoundError as exc:
                if _code_of(exc) == _NO_BUCKET:
                    raise
                raise NotFound("no such blob") from exc

    def has(self, digest: str) -> bool:
        """Tell whether there is such a blob."""
        with _s3_faults():
            return self._size(self._key(digest)) is not None

    def is_whole(self, digest: str) -> bool:
        """Tell whether there is such a blob and it is what its digest says."""
        key, hashed = self._key(digest), hashlib.sha256()
        with _s3_faults():
            if self._size(key) is None:
                return False
            with self._files.open(key, "rb", block_size=_PIECE, cache_type="readahead") as data:
                while piece := data.read(_PIECE):
                    hashed.update(piece)
        return hashed.hexdigest() == digest

    def remove(self, digest: str) -> None:
        """Remove a blob; nothing happens when there is none."""
        with _s3_faults():
            self._files.rm_file(self._key(digest))

    def _key(self, digest: str) -> str:
        return f"{self._prefix}/{ensure_digest(digest)[:2]}/{digest}"

    def _size(self, key: str) -> int | None:
        try:
            return int(self._files.info(key, refresh=True)["size"])
        except FileNotFoundError as exc:
            if _code_of(exc) == _NO_BUCKET:
                raise
            return None


@contextmanager
def _s3_faults() -> Iterator[None]:
    """Turn errors of the store, the network and the credentials into ours; their texts hold addresses and keys."""
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped] # published without types
    from botocore.exceptions import ClientError as ServiceError

    try:
        yield
    except (OSError, BotoCoreError, ServiceError, ClientError) as exc:
        raise unavailable(f"the blob store {causes.of_s3(_code_of(exc), _kind_of(exc))}") from exc


def _code_of(error: BaseException | None) -> str:
    """Return what the service calls an error, or the one behind it; nothing when no service has answered."""
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


def _kind_of(error: BaseException) -> str:
    """Return the name of the innermost error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
