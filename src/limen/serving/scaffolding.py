"""A package folder from a trained artifact: all of `limen init`, and the last step of `limen import` (`serving.importing`).

The artifact is copied as it is; its format decides the backend, its own tensors (and a sample, if there is one) the fields.
"""

from __future__ import annotations

import ast
import csv
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from limen.contracts.errors import InvalidPackage, Reason
from limen.contracts.names import parse_model_name
from limen.contracts.tensors import Array
from limen.packaging.decoder import decode_manifest
from limen.packaging.huggingface import read_model
from limen.packaging.manifest import MANIFEST_NAME
from limen.packaging.scaffold import Hints, scaffold, unseen_columns
from limen.packaging.sniff import ensure_format, sniff
from limen.runtime.backends import backend_for
from limen.runtime.backends.onnx import external_files
from limen.runtime.predictor import Signature

SAMPLE_ROWS: Final = 10_000
MAX_LISTED: Final = 20
_BOOLEANS: Final = {"True": True, "true": True, "TRUE": True, "False": False, "false": False, "FALSE": False}
"""What pandas reads as booleans too, so that the model was trained on them."""
_SUFFIX: Final = {
    "xgboost-json": ".json",
    "xgboost-ubj": ".ubj",
    "lightgbm": ".txt",
    "skops": ".skops",
    "jdm": ".json",
    "torch-export": ".pt2",
    "transformers": "/config.json",
    "python": ".py",
}


class Created(msgspec.Struct, frozen=True):
    """The folder that was made."""

    folder: Path
    artifact: str
    format: str
    backend: str
    inputs: int
    outputs: int
    needs_trust: bool
    """Whether it is served with --trust-code only."""
    notes: tuple[str, ...] = ()
    """What of the sample was of no use, for people."""


def create_package(name: str, source: Path, folder: Path, sample: Path | None) -> Created:
    """Make a package folder, whole or not at all.

    Args:
        name: the model's name.
        source: the artifact.
        folder: what to make; must not exist or be empty.
        sample: a CSV of example rows with a header.

    Raises:
        InvalidPackage: the artifact cannot be packaged, or the folder is in use.
        InvalidArgument: the name is not one.
    """
    parse_model_name(name, "name")
    if not source.is_file():
        raise InvalidPackage(f"there is no file {source}")
    ensure_free(folder)
    with staged(folder) as inside:
        made = fill_package(name, source, inside, read_sample(sample) if sample else None, sample_file=sample)
    return msgspec.structs.replace(made, folder=folder)


def ensure_free(folder: Path) -> None:
    """Refuse a place for a new package where something is already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidPackage(f"{folder} is there already and not empty; choose another place with --dir")


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` at the end, and leave nothing behind if the block fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as staging:
        inside = Path(staging) / "package"
        inside.mkdir()
        yield inside
        if folder.exists():
            folder.rmdir()
        inside.rename(folder)


def fill_package(
    name: str,
    source: Path,
    folder: Path,
    sample: Mapping[str, Array] | None = None,
    *,
    sample_file: Path | None = None,
    hints: Hints | None = None,
    amend: Callable[[str, Signature], Signature] | None = None,
) -> Created:
    """Write a package of a trained artifact into an empty folder.

    Args:
        name: the model's name, already valid.
        source: the artifact.
        folder: an empty folder.
        sample: columns of example data by name.
        sample_file: where a person wrote the sample down; one that does not belong to the model is refused.
        hints: what else is known of the model.
        amend: takes the backend's name and the artifact's tensors and returns them with what the source knows about them.

    Raises:
        InvalidPackage: the artifact cannot be packaged, or the sample is another model's.
    """
    found = sniff(source)
    loader = backend_for(found.value)
    if loader is None:
        raise _refused(source, found.value)
    signature = loader.describe(source, sample)
    if amend is not None:
        signature = amend(loader.name, signature)
    notes = _notes(sample_file, signature, sample) if sample_file is not None and sample else ()
    artifact = f"model{_SUFFIX.get(found.value, source.suffix or '.bin')}"
    reference = f"{artifact}:{_class_name(source)}" if loader.name == "python" else artifact
    text = scaffold(name, loader.name, reference, signature, sample, hints)
    manifest = decode_manifest(text)
    contract = manifest.contract
    place = (folder / artifact).parent
    for path in ("", *_files_beside(source, loader.name)):
        target = place / path if path else folder / artifact
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / path if path else source, target)
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    inputs, outputs = len(contract.inputs), len(contract.outputs)
    return Created(folder, artifact, found.value, loader.name, inputs, outputs, manifest.needs_trust, notes)


def _notes(file: Path, signature: Signature, sample: Mapping[str, Array]) -> tuple[str, ...]:
    """Return which of the model's columns a sample lacks; refuse one that has none of them, which is a mistake."""
    unseen = unseen_columns(signature, sample)
    if unseen.names and not unseen.seen:
        raise InvalidPackage(
            f"{file} has none of the columns that the model takes. It takes {_listed(unseen.names)}; the file's header says "
            f"{_listed(tuple(sample))}. Correct the header, or leave out --sample"
        )
    return (f"{file} lacks columns that the model takes: {_listed(unseen.names)}",) if unseen.names else ()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _files_beside(source: Path, backend: str) -> tuple[str, ...]:
    """Return the files that an artifact needs besides itself, relative to its folder."""
    if backend == "onnx":
        return external_files(source)
    return read_model(source.parent).files if backend == "transformers" else ()


def _refused(source: Path, found: str) -> InvalidPackage:
    """Return why no backend loads a file; for a pickle, why none ever will."""
    try:
        ensure_format(source, ())
    except InvalidPackage as exc:
        if exc.reason is Reason.UNSAFE_FORMAT:
            return exc
    return InvalidPackage(
        f"{source.name} is {found}, which no backend loads; Limen takes ONNX, skops, XGBoost (JSON or UBJ), LightGBM (text), "
        "torch.export programs, Hugging Face models, decisions (JDM) and Python classes"
    )


def read_sample(path: Path) -> dict[str, Array]:
    """Return the columns of a CSV file with a header: booleans, whole numbers, numbers, or text; an empty cell is missing.

    Raises:
        InvalidPackage: it is no such file.
    """
    if not path.is_file():
        raise InvalidPackage(f"there is no file {path}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [row for _, row in zip(range(SAMPLE_ROWS + 1), csv.reader(file), strict=False)]
    except UnicodeDecodeError:
        raise InvalidPackage(
            f"{path} is not UTF-8 text, which a sample must be; save it as CSV in UTF-8, or convert it with "
            f"`iconv -f ENCODING -t UTF-8` (files of old Windows programs are WINDOWS-1252)"
        ) from None
    header, rows = lines[0] if lines else [], [row for row in lines[1:] if row]
    if not header or len(set(header)) != len(header):
        raise InvalidPackage(f"{path} needs a header line with different names")
    if not rows or any(len(row) != len(header) for row in rows):
        raise InvalidPackage(f"{path} needs at least one row, and as many cells in each row as in the header")
    return {name: _column([row[i] for row in rows]) for i, name in enumerate(header)}


def _column(cells: Sequence[str]) -> Array:
    if all(cell.strip() in _BOOLEANS for cell in cells):
        return np.array([_BOOLEANS[cell.strip()] for cell in cells], np.bool_)
    present = [cell for cell in cells if cell.strip()]
    if present and len(present) == len(cells) and all(_is(int, cell) for cell in present):
        return np.array([int(cell) for cell in cells], np.int64)
    if present and all(_is(float, cell) for cell in present):
        return np.array([float(cell) if cell.strip() else np.nan for cell in cells], np.float64)
    texts = np.empty(len(cells), object)
    texts[:] = [cell if cell.strip() else None for cell in cells]
    return texts


def _is(kind: type[int | float], cell: str) -> bool:
    try:
        kind(cell)
    except ValueError:
        return False
    return True


def _class_name(source: Path) -> str:
    """Return the class of a Python artifact: the only one that has `predict`."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    found = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(item, ast.FunctionDef) and item.name == "predict" for item in node.body)
    ]
    if len(found) != 1:
        raise InvalidPackage(f"{source.name} must hold exactly one class with a predict method, found {len(found)}")
    return found[0]
