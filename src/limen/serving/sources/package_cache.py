"""Packages of registered versions on this machine: unpacked once under their digest, and checked before each use.

Called by `serving.sources.reconciler`. A copy that is whole needs neither the blob store nor the database.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from limen.contracts.errors import InvalidPackage, NotFound, Reason, Unavailable
from limen.packaging.archive.intact import is_intact
from limen.packaging.archive.package import Package, open_package
from limen.packaging.manifest.decoder import read_manifest
from limen.storage import causes
from limen.storage.blobs import BlobStore
from limen.storage.private import make_private_folder


class PackageCache:
    """The folder of unpacked packages."""

    def __init__(self, home: Path, blobs: BlobStore | None) -> None:
        """Keep packages in `home`; without a blob store only those that are there already can be had."""
        self._home = home
        self._blobs = blobs

    def open(self, digest: str, archive: str, origin: str) -> Package:
        """Return a package whose every file is what its digest says.

        Args:
            digest: names its content.
            archive: key of the blob with its archive.
            origin: where it comes from, for people.

        Raises:
            InvalidPackage: what is stored is damaged, or is another package.
            Unavailable: it is not here, and the blob store cannot be reached.
        """
        root = self._home / "packages" / digest
        if is_intact(root, digest):
            return Package(root, read_manifest(root), digest, Path(origin))
        if self._blobs is None:
            raise Unavailable("the package is not on this machine, and the blob store is unreachable")
        try:
            package = self._fetched(self._blobs, archive)
        except NotFound as exc:
            # It was stored before the version was registered: somebody lost it, and may bring it back.
            raise Unavailable(causes.LOST_PACKAGE, reason=Reason.STORAGE) from exc
        except OSError as exc:
            text = f"cannot unpack the package here: {exc.strerror or type(exc).__name__}"
            raise Unavailable(text, reason=Reason.STORAGE) from exc
        if package.digest != digest:
            raise InvalidPackage("the package stored for this version is a different one")
        return Package(package.root, package.manifest, digest, Path(origin))

    def _fetched(self, blobs: BlobStore, archive: str) -> Package:
        make_private_folder(self._home)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._home) as folder:
            fetched = Path(folder) / "package.limen"
            blobs.fetch(archive, fetched)
            return open_package(fetched, self._home)
