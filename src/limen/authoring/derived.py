"""A package folder derived from a trained model that can be regenerated: what `limen up` and `limen.package` maintain.

The folder is made as `limen import` and `limen init` make it. When the model is trained again, the folder is made anew; a `model.yaml`
that was edited stays, and only the model's own files are replaced. A model that cannot be taken leaves the folder as it is.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from limen.authoring.golden import Ask, record
from limen.authoring.importing import ImportOptions, import_model
from limen.authoring.scaffolding import Created, create_package
from limen.contracts.errors import InvalidPackage, LimenError
from limen.packaging.archive.origin import ORIGIN_NAME
from limen.packaging.archive.scan import Scan, scan
from limen.packaging.importers.draft import model_name
from limen.packaging.manifest.edit import without_answers
from limen.packaging.manifest.values import MANIFEST_NAME

PYTHON_SUFFIX: Final = ".py"
_MADE: Final = "manifest_sha256"
"""In `origin.json`: the digest of `model.yaml` as it was made, which tells whether it was edited since."""


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder was made of."""

    created: Created
    notes: tuple[str, ...]
    """What was guessed, renamed or left out, for people."""
    is_kept: bool = False
    """`model.yaml` was edited since it was made, and is the editor's."""


def derive(folder: Path, make: Callable[[Path], Derived], ask: Ask | None = None) -> Derived:
    """Make a package folder, or make it again.

    Args:
        folder: what to make; a package that was made here before is replaced.
        make: makes a package in the folder that it is given, which does not exist.
        ask: asks the model for the answers to the examples of an edited `model.yaml`; they are left out when there is none.

    Raises:
        InvalidPackage: no package can be made, or something else is in the folder.
    """
    if folder.exists() and not (folder / MANIFEST_NAME).is_file():
        if not folder.is_dir() or any(folder.iterdir()):
            raise InvalidPackage(f"{folder} already exists and is not a package; choose another folder")
        folder.rmdir()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        made = Path(place) / folder.name
        derived = make(made)
        _note(made)
        is_kept = _is_edited(folder)
        if is_kept:
            _keep_manifest(folder, made, ask, trust_code=derived.created.needs_trust)
        if folder.exists():
            folder.rename(made.with_name("old"))
        made.rename(folder)
    return msgspec.structs.replace(
        derived, created=msgspec.structs.replace(derived.created, folder=folder), is_kept=is_kept
    )


def _keep_manifest(folder: Path, made: Path, ask: Ask | None, *, trust_code: bool) -> None:
    """Give a new folder the old one's `model.yaml`, with the new model's answers to its examples."""
    text = (folder / MANIFEST_NAME).read_text(encoding="utf-8")
    (made / MANIFEST_NAME).write_text(without_answers(text), encoding="utf-8")
    if ask is not None:
        # A model that does not fit the contract is refused when it is loaded, with the reason.
        with suppress(LimenError):
            record(made, ask, trust_code=trust_code)


def _note(folder: Path) -> None:
    """Keep in a new folder what its `model.yaml` is now."""
    origin = _origin(folder) | {_MADE: _digest(folder)}
    (folder / ORIGIN_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(origin), indent=1))


def _is_edited(folder: Path) -> bool:
    """Whether the `model.yaml` of a folder is another one than was made there."""
    return (folder / MANIFEST_NAME).is_file() and _origin(folder).get(_MADE) != _digest(folder)


def _origin(folder: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode((folder / ORIGIN_NAME).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()


class DerivedPackage:
    """One trained model in a file or folder, and the package folder made of it."""

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
        self._made_of: Scan = ()
        self._seen: Scan = ()

    def make(self) -> Derived:
        """Make the folder from the model as it is now.

        Raises:
            InvalidPackage: why no package can be made of it.
        """
        self._made_of = self._seen = scan(self.source)
        return derive(self.folder, self._make, self._options.ask)

    def has_changed(self) -> bool:
        """Return whether the model is another one than the folder was made of, and has been left alone since the last call."""
        before, self._seen = self._seen, scan(self.source)
        return self._seen == before != () and self._seen != self._made_of

    def _make(self, folder: Path) -> Derived:
        options = msgspec.structs.replace(self._options, folder=folder)
        if self.source.suffix == PYTHON_SUFFIX:
            name = options.name or model_name(self.source.stem)
            created = create_package(name, self.source, folder, options.sample, options.not_inputs, ask=options.ask)
            return Derived(created=created, notes=created.notes)
        imported = import_model(str(self.source), options)
        return Derived(created=imported.created, notes=imported.notes)
