"""Programs saved by `torch.export.save` (`.pt2`), read without their pickled sample inputs.

The program itself is JSON and raw numbers; weights or constants that are pickled make the package unsafe, and it is refused when the
file is looked at. Reading the rest evaluates expressions that stand in it, so the package needs `--trust-code`.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import ClassVar, Final

from limen.packaging.importers.draft import Draft

MARK: Final = "/archive_format"
SAMPLES: Final = "/data/sample_inputs/"
MAX_BYTES: Final = 8 << 30


class TorchExportImporter:
    """Reads one program."""

    kind: ClassVar[str] = "torch.export program"

    def recognises(self, path: Path) -> bool:
        """Return whether it is an archive that says so itself."""
        if not path.is_file() or not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            marks = [info for info in archive.infolist() if info.filename.endswith(MARK)]
            return len(marks) == 1 and marks[0].file_size == 3 and archive.read(marks[0]) == b"pt2"

    def read(self, path: Path, version: str) -> Draft:
        """Return the program, and that its sample inputs are left out."""
        note = "sample inputs of the program: they are a pickle"
        return Draft(kind=self.kind, name=path.stem, artifact=path, rewrite=copy_without_samples, notes=(note,))


def has_samples(source: Path) -> bool:
    """Return whether a program holds the pickled sample inputs that an import leaves out."""
    with zipfile.ZipFile(source) as archive:
        return any(SAMPLES in name for name in archive.namelist())


def copy_without_samples(source: Path, target: Path) -> None:
    """Write the members of an archive to another, uncompressed as PyTorch reads them, but for the sample inputs."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as kept:
        for info in archive.infolist():
            if SAMPLES not in info.filename and not info.is_dir() and info.file_size <= MAX_BYTES:
                with (
                    archive.open(info) as member,
                    kept.open(zipfile.ZipInfo(info.filename), "w", force_zip64=True) as out,
                ):
                    while piece := member.read(1 << 20):
                        out.write(piece)
