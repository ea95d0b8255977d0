"""Creates a package folder from a trained artifact: `limen init`, and the last step of `limen import`.

The artifact is copied as it is; its format decides the backend, its own tensors (and a sample, if there is one) the fields.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from limen.authoring.golden import Ask, record, unable
from limen.authoring.python_file import PythonFile
from limen.authoring.retraining import Known, adopt
from limen.authoring.samples.files import read_sample
from limen.authoring.samples.frames import as_sample
from limen.authoring.samples.matching import matched, without_targets
from limen.authoring.samples.sample import Sample
from limen.authoring.workbench import described
from limen.contracts.errors import InvalidPackage, LimenError, Reason
from limen.contracts.names import parse_model_name
from limen.packaging.formats.huggingface import read_model
from limen.packaging.formats.known import Format
from limen.packaging.formats.sniff import ensure_format, sniff
from limen.packaging.importers.torch_export import TorchExportImporter, has_samples
from limen.packaging.manifest.decoder import decode_manifest
from limen.packaging.manifest.scaffold import Hints, scaffold
from limen.packaging.manifest.values import MANIFEST_NAME
from limen.runtime.backends import backend_for
from limen.runtime.backends.onnx import external_files
from limen.runtime.predictor import Signature

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
    """What was left out or renamed, for people."""
    guesses: Mapping[str, str] = {}
    """Inputs whose type is a guess, and why it is this one."""
    answered: int = 0
    """Examples that have the model's answers."""


def create_package(
    name: str,
    source: Path,
    folder: Path,
    sample: Any = None,
    targets: Sequence[str] = (),
    *,
    like: Known | None = None,
    ask: Ask | None = None,
) -> Created:
    """Make a package folder, whole or not at all.

    Args:
        name: the model's name.
        source: the artifact.
        folder: what to make; must not exist or be empty.
        sample: example rows: a file of them, or whatever `samples.frames.as_sample` takes.
        targets: columns of the sample that are no inputs.
        like: the contract that callers know, when the model was trained again.
        ask: asks the model for the answers to its examples; it is not asked when there is none, or when it is code.

    Raises:
        InvalidPackage: the artifact cannot be packaged, the sample is another model's, or the folder is in use.
        InvalidArgument: the name is not one.
    """
    parse_model_name(name, "name")
    if not source.is_file():
        raise InvalidPackage(f"no such file: {source}")
    ensure_free(folder)
    rows = None if sample is None else without_targets(sample_of(sample), targets)
    with staged(folder) as inside:
        if like is None:
            made = fill_package(name, source, inside, rows, ask=ask)
        else:
            made = _taken_over(fill_package(name, source, inside, rows), like, ask)
    return msgspec.structs.replace(made, folder=folder)


def _taken_over(made: Created, like: Known, ask: Ask | None) -> Created:
    """Return a new folder after it took over the contract that callers know, with what they will notice of the new model."""
    folder = made.folder
    notes = [*made.notes, *(f"callers of {like.name} will notice: {text}" for text in adopt(folder, like))]
    answered = 0
    if ask is not None and not made.needs_trust:
        try:
            recorded = record(folder, ask, trust_code=False)
            missing = ", ".join(sorted(unable(folder, ask, trust_code=False)))
        except LimenError as exc:
            notes.append(f"the examples have no answers: {exc.message}")
        else:
            notes += recorded.notes
            answered = recorded.answered
            if missing:
                notes.append(f"callers may leave out {missing}, but this model cannot answer without it; set a default")
    return msgspec.structs.replace(made, notes=tuple(notes), guesses={}, answered=answered)


def sample_of(data: Any) -> Sample:
    """Return the sample in a file, or the one that is in memory.

    Raises:
        InvalidPackage: there are no example rows in it.
    """
    return read_sample(data) if isinstance(data, Path) else as_sample(data)


def ensure_free(folder: Path) -> None:
    """Refuse a place for a new package where something is already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidPackage(f"{folder} already exists and is not empty; choose another folder with --dir")


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
    sample: Sample | None = None,
    *,
    hints: Hints | None = None,
    amend: Callable[[str, Signature], Signature] | None = None,
    ask: Ask | None = None,
) -> Created:
    """Write a package of a trained artifact into an empty folder.

    Args:
        name: the model's name, already valid.
        source: the artifact.
        folder: an empty folder.
        sample: example rows; what is no input of the model is left out, and said.
        hints: what else is known of the model.
        amend: takes the backend's name and the artifact's tensors and returns them with what the source knows about them.
        ask: asks the model for the answers to the examples, unless it is code.

    Raises:
        InvalidPackage: the artifact cannot be packaged, or the sample is another model's.
    """
    hints = hints or Hints()
    made = _write(name, source, folder, sample, hints, amend)
    if ask is None or sample is None or made.needs_trust:
        return made
    try:
        recorded = record(folder, ask, trust_code=False)
        if recorded.failed and (fields := unable(folder, ask, trust_code=False)):
            made = _write(name, source, folder, sample, msgspec.structs.replace(hints, unable=fields), amend)
            recorded = record(folder, ask, trust_code=False)
            text = f"the model cannot answer when {', '.join(sorted(fields))} is missing, so it is not nullable, even if the sample has gaps"
            made = msgspec.structs.replace(made, notes=(*made.notes, text))
    except LimenError as exc:
        return msgspec.structs.replace(made, notes=(*made.notes, f"the examples have no answers: {exc.message}"))
    return msgspec.structs.replace(made, notes=(*made.notes, *recorded.notes), answered=recorded.answered)


def _write(
    name: str,
    source: Path,
    folder: Path,
    sample: Sample | None,
    hints: Hints,
    amend: Callable[[str, Signature], Signature] | None,
) -> Created:
    found = sniff(source)
    loader = backend_for(found.value)
    if loader is None:
        raise _refused(source, found.value)
    code = PythonFile.of(source) if loader.name == "python" else None
    columns = sample.columns if sample is not None else None
    # Describing code runs none of it; a native library reads a file that it may crash on.
    signature = loader.describe(source, columns) if code is not None else described(source, loader.name, columns)
    left_out = signature.left_out
    if amend is not None:
        signature = amend(loader.name, signature)
    if sample is not None:
        sample = matched(sample, signature, code.words if code is not None else ())
    artifact = f"model{_SUFFIX.get(found.value, source.suffix or '.bin')}"
    reference = f"{artifact}:{code.class_name}" if code is not None else artifact
    written = scaffold(
        name,
        loader.name,
        reference,
        signature,
        None if sample is None else sample.columns,
        _told(hints, loader.name, signature, sample),
    )
    manifest = decode_manifest(written.text)
    contract = manifest.contract
    place = (folder / artifact).parent
    for path in ("", *_files_beside(source, loader.name)):
        target = place / path if path else folder / artifact
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / path if path else source, target)
    (folder / MANIFEST_NAME).write_text(written.text, encoding="utf-8")
    inputs, outputs = len(contract.inputs), len(contract.outputs)
    notes = [f"{output}, which a contract cannot express; it is left out" for output in left_out]
    notes += [] if sample is None else sample.notes
    wires = {field.wire for field in (*contract.inputs, *contract.outputs)}
    notes += [
        f"the field for {given} is named {field}"
        + (f"; callers that send tensors keep using {given}" if given in wires else "")
        for given, field in written.renamed.items()
    ]
    return Created(
        folder,
        artifact,
        found.value,
        loader.name,
        inputs,
        outputs,
        manifest.needs_trust,
        tuple(notes),
        written.guesses,
    )


def _told(hints: Hints, backend: str, signature: Signature, sample: Sample | None) -> Hints:
    """Return what is known of the model with what the sample says about itself."""
    if sample is None:
        return hints
    # A class declares nothing, and an estimator that was fitted on a frame declares names only.
    is_fitted_on_frame = backend == "sklearn" and all(tensor.shape == (-1,) for tensor in signature.inputs)
    are_guessed = not signature.inputs or (is_fitted_on_frame and not sample.is_typed)
    return msgspec.structs.replace(
        hints, categories=sample.categories, reasons=sample.reasons, are_types_guessed=are_guessed
    )


def _files_beside(source: Path, backend: str) -> tuple[str, ...]:
    """Return the files that an artifact needs besides itself, relative to its folder."""
    if backend == "onnx":
        return external_files(source)
    return read_model(source.parent).files if backend == "transformers" else ()


def _refused(source: Path, found: str) -> InvalidPackage:
    """Return why no backend loads a file; for a pickle, why none ever will, and for an archive of PyTorch what takes it."""
    if TorchExportImporter().recognises(source) and has_samples(source):
        text = (
            f"{source.name} is a torch.export program with sample inputs; `limen import {source.name}` leaves them out"
        )
        return InvalidPackage(text)
    try:
        ensure_format(source, ())
    except InvalidPackage as exc:
        if exc.reason is Reason.UNSAFE_FORMAT:
            return exc
    if found == Format.CATBOOST:
        return InvalidPackage(
            f"{source.name} is a CatBoost model in its own form, which no backend loads; save it as ONNX (save_model(file, "
            'format="onnx")) and take that. ONNX has CatBoost\'s numbers only: encode columns of text before training'
        )
    return InvalidPackage(
        f"{source.name} is {found}, which no backend loads; Limen takes ONNX, skops, XGBoost (JSON or UBJ), LightGBM (text), "
        "torch.export programs, Hugging Face models, decisions (JDM) and Python classes"
    )
