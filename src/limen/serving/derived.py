"""A package that is derived from a trained model and kept in step with it: the package of `limen up`.

The folder is made as `limen import` and `limen init` make it. When the model is trained again, the folder is made anew; a `model.yaml`
that somebody has edited stays, and only the model's own files are replaced. A change that cannot be taken leaves the folder as it is.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec

from limen.packaging.importers.draft import model_name
from limen.packaging.manifest import MANIFEST_NAME
from limen.serving.importing import ImportOptions, import_model
from limen.serving.opening import Scan, scan
from limen.serving.scaffolding import Created, create_package

PYTHON_SUFFIX = ".py"


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What the folder was made of."""

    created: Created
    notes: tuple[str, ...]
    """What was guessed, renamed or left out, for people."""
    is_kept: bool = False
    """`model.yaml` was edited since it was made, and is the editor's."""


class DerivedPackage:
    """One model and the package folder made of it."""

    def __init__(self, source: Path, folder: Path, options: ImportOptions) -> None:
        """Name the two; nothing is read or written yet.

        Args:
            source: a model file, or the folder of a model of another tool.
            folder: the package folder; made when it is not there.
            options: name, sample, and what may be trusted; its folder is not used.
        """
        self.source = source
        self.folder = folder
        self._options = options
        self._generated = folder.with_name(f".{folder.name}.generated.yaml")
        self._made_of: Scan = ()
        self._seen: Scan = ()

    def make(self) -> Made:
        """Make the folder from the model as it is now.

        Raises:
            InvalidPackage: why no package can be made of it.
        """
        self._made_of = self._seen = scan(self.source)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=f".{self.folder.name}-") as place:
            made = self._derive(Path(place) / self.folder.name)
            created = msgspec.structs.replace(made.created, folder=self.folder)
            is_kept = self._take(made.created.folder)
        return msgspec.structs.replace(made, created=created, is_kept=is_kept)

    def has_changed(self) -> bool:
        """Return whether the model is another one than the folder was made of, and has been left alone since the last call."""
        before, self._seen = self._seen, scan(self.source)
        return self._seen == before != () and self._seen != self._made_of

    def _derive(self, folder: Path) -> Made:
        options = msgspec.structs.replace(self._options, folder=folder)
        if self.source.suffix == PYTHON_SUFFIX:
            created = create_package(options.name or model_name(self.source.stem), self.source, folder, options.sample)
            return Made(created=created, notes=created.notes)
        imported = import_model(str(self.source), options)
        return Made(created=imported.created, notes=imported.notes)

    def _take(self, made: Path) -> bool:
        """Put a new folder in the place of the old one, and return whether the old `model.yaml` stays."""
        manifest, text = self.folder / MANIFEST_NAME, (made / MANIFEST_NAME).read_bytes()
        is_kept = manifest.is_file() and (
            not self._generated.is_file() or manifest.read_bytes() != self._generated.read_bytes()
        )
        if is_kept:
            shutil.copyfile(manifest, made / MANIFEST_NAME)
        else:
            self._generated.write_bytes(text)
        old = made.with_name("old")
        if self.folder.exists():
            self.folder.rename(old)
        made.rename(self.folder)
        return is_kept
