"""`limen import`: builds a package from another tool's model and checks it against the original.

A source is read (`packaging.importers`), a pickle is converted in a process that may do next to nothing (`authoring.conversion`), the
package is written as `limen init` writes it, loaded, and asked what the original was asked. A converted model whose answers differ
is not kept. The package records where it came from (`origin.json`) and what the original answered (`examples.json`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from limen.authoring.conversion import Candidate, Converted, convert
from limen.authoring.golden import Ask
from limen.authoring.parity import Parity, as_table, example_rows
from limen.authoring.samples.matching import without_targets
from limen.authoring.samples.sample import Sample
from limen.authoring.scaffolding import Created, ensure_free, fill_package, sample_of, staged
from limen.authoring.signatures import amended
from limen.authoring.workbench import compared
from limen.contracts.errors import InvalidPackage, LimenError, Reason
from limen.contracts.names import parse_model_name
from limen.contracts.strict.rules import shown
from limen.packaging.archive.origin import ORIGIN_NAME
from limen.packaging.importers import read_source
from limen.packaging.importers.draft import WHOLE, Draft, model_name
from limen.packaging.importers.mlflow_registry import TrackingServer, fetch
from limen.packaging.manifest.decoder import read_manifest
from limen.packaging.manifest.scaffold import Hints
from limen.runtime.backends.xgboost import write_as_stopped
from limen.runtime.sandbox.confinement import not_contained

EXAMPLES_NAME: Final = "examples.json"
MAX_EXAMPLES: Final = 5
TARGETS: Final = ("onnx", "skops")
_SUFFIX: Final = {
    "onnx": ".onnx",
    "skops": ".skops",
    "xgboost-ubj": ".ubj",
    "lightgbm": ".txt",
    "torch-export": ".pt2",
    "python": ".py",
}


class ImportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the person who imports decides."""

    name: str = ""
    """The model's name; the source's own when not given."""
    folder: Path | None = None
    """The folder to make; the model's name when not given."""
    version: str = ""
    """Which version of a Triton model."""
    sample: Path | None = None
    """A file of example rows, instead of the source's own example."""
    not_inputs: tuple[str, ...] = ()
    """Columns of that file that the model does not take."""
    trust_pickle: bool = False
    """Whether a pickle may be loaded, in its own process, to be converted."""
    targets: tuple[str, ...] = TARGETS
    """Formats a scikit-learn pickle is converted to, the preferred one first."""
    server: TrackingServer | None = None
    """The MLflow tracking server."""
    ask: Ask | None = None
    """Asks the model for the answers to its examples."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What was made."""

    created: Created
    name: str
    kind: str
    """What the source is, for people."""
    origin: Mapping[str, Any]
    """What `origin.json` says."""
    parity: Parity | None
    """How the answers compare with the original's; None when the original's file is used as it is."""
    notes: tuple[str, ...]
    """What was not carried over."""


def import_model(source: str, options: ImportOptions) -> Imported:
    """Make a package folder of a source, whole or not at all.

    Args:
        source: a path, `mlflow:models:/NAME/VERSION`, `mlflow:models:/NAME@ALIAS` or `triton:REPOSITORY/MODEL`.
        options: name, place, and what may be trusted.

    Raises:
        InvalidPackage: why it cannot be imported; UNSAFE_FORMAT for a pickle without trust.
        InvalidArgument: the name is not one.
        NotFound, Unavailable: the MLflow server has no such model, or does not answer.
    """
    with _fetched(source, options) as fetched:
        draft = fetched
        name = parse_model_name(options.name or model_name(draft.name), "name")
        if not options.name and name != draft.name:
            renamed = f"the model is named {name}; {shown(draft.name)} is not a valid model name (use --name to choose another)"
            draft = msgspec.structs.replace(draft, notes=(renamed, *draft.notes))
        folder = options.folder or Path(name)
        ensure_free(folder)
        sample = Sample(columns=draft.sample, source="the source's own example", is_typed=True)
        if options.sample is not None:
            sample = without_targets(sample_of(options.sample), options.not_inputs)
        if draft.is_pickle:
            return _convert(draft, name, folder, options, sample)
        return _take(draft, name, folder, sample, options)


_UNPREFIXED: Final = {
    "models": "a model of an MLflow registry is imported as mlflow:{0}",
    "runs": "{0} is a run of MLflow, not a registered model: register it and import mlflow:models:/NAME/VERSION, or fetch it with "
    "`mlflow artifacts download -u {0} -d FOLDER` and import the folder",
}
"""What to write instead of MLflow's own references."""


@contextmanager
def _fetched(source: str, options: ImportOptions) -> Iterator[Draft]:
    """Yield what a source holds; files that had to be fetched are gone afterwards."""
    scheme, colon, rest = source.partition(":")
    if colon and scheme in ("models", "runs") and rest.startswith("/"):
        raise InvalidPackage(_UNPREFIXED[scheme].format(source))
    if not colon or scheme not in ("mlflow", "triton"):
        # The name alone: where it lay on this machine is nobody's business.
        yield _with_source(read_source(Path(source), options.version), Path(source).resolve().name)
    elif scheme == "triton":
        yield _with_source(read_source(Path(rest), options.version), f"triton:{Path(rest).resolve().name}")
    else:
        if options.server is None:
            text = "an MLflow registry needs the address of its server: set MLFLOW_TRACKING_URI or give --tracking-uri"
            raise InvalidPackage(text)
        with tempfile.TemporaryDirectory(prefix="limen-import-") as place:
            folder = Path(place) / "model"
            folder.mkdir()
            found = fetch(rest, options.server, folder)
            draft = _with_source(read_source(folder), found.reference)
            yield msgspec.structs.replace(draft, name=found.name)


def _with_source(draft: Draft, source: str) -> Draft:
    return msgspec.structs.replace(draft, origin={"source": source, **draft.origin})


def _take(draft: Draft, name: str, folder: Path, sample: Sample, options: ImportOptions) -> Imported:
    """Make a package around the source's own file."""
    with staged(folder) as inside, tempfile.TemporaryDirectory() as place:
        artifact = draft.artifact
        if draft.rewrite is not None:
            artifact = Path(place) / draft.artifact.name
            draft.rewrite(draft.artifact, artifact)
        elif draft.is_early_stopped:
            artifact = Path(place) / "model.ubj"
            write_as_stopped(draft.artifact, artifact)
        created = _fill(draft, name, artifact, inside, sample, options, is_class=draft.classifier)
        origin = {**draft.origin, "format": created.format, "versions": dict(draft.versions)}
        _write(inside, ORIGIN_NAME, origin)
    created = msgspec.structs.replace(created, folder=folder)
    notes = (*draft.notes, *created.notes)
    return Imported(created=created, name=name, kind=draft.kind, origin=origin, parity=None, notes=notes)


def _convert(draft: Draft, name: str, folder: Path, options: ImportOptions, sample: Sample) -> Imported:
    """Make a package of the first format whose answers are the original's."""
    if not options.trust_pickle:
        raise InvalidPackage(
            f"{draft.artifact.name} is a pickle, which runs code when it is loaded; Limen never serves pickles. If you trust "
            "its source, --trust-pickle loads it once, in a process without network or file access, and converts it",
            reason=Reason.UNSAFE_FORMAT,
        )
    columns = sample.columns or {c.name: np.empty(0, _DTYPES.get(c.type, c.type)) for c in draft.columns}
    try:
        found = convert(draft.artifact.read_bytes(), options.targets, columns)
    except InvalidPackage as exc:
        raise InvalidPackage(exc.message + _written_with(draft)) from exc
    return package_converted(draft, name, folder, found)


def package_converted(draft: Draft, name: str, folder: Path, found: Converted) -> Imported:
    """Make a package folder of the first format whose answers are the original's; those are its golden examples.

    Args:
        draft: what is known of the original; its artifact is not used.
        name: the model's name, already valid.
        folder: the folder to make; must not exist or be empty.
        found: the original in formats that can be served, and its answers.

    Raises:
        InvalidPackage: no format answers as the original does; the text says how each one differs.
    """
    refused = dict(found.refused)
    for candidate in found.candidates:
        try:
            with _without_tracebacks():
                made = _keep(draft, name, folder, found, candidate)
        except LimenError as exc:
            refused[candidate.format] = exc.message
            continue
        open_ends = not_contained(found.isolation)
        if open_ends:
            refused_by_system = (
                f"this system could not prevent the pickle from {' or '.join(open_ends)} while it was loaded"
            )
            made = msgspec.structs.replace(made, notes=(*made.notes, refused_by_system))
        others = [f"{target} is preferred but was not possible: {text}" for target, text in refused.items()]
        return msgspec.structs.replace(made, notes=(*made.notes, *others))
    why = "; ".join(f"{target}: {text}" for target, text in refused.items()) or "nothing was written"
    raise InvalidPackage(f"the {found.library} cannot be converted. {why}" + _written_with(draft))


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keep the log still: a candidate that fails is expected, and why is told in one line."""
    log = logging.getLogger("limen.model")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


_DTYPES: Final = {"string": "object", "bytes": "object"}


def _written_with(draft: Draft) -> str:
    libraries = ", ".join(f"{library} {version}" for library, version in draft.versions.items())
    return f" (it was written with {libraries})" if libraries else ""


def _keep(draft: Draft, name: str, folder: Path, found: Converted, candidate: Candidate) -> Imported:
    """Make a package of one candidate, or raise `InvalidPackage` with what differs from the original."""
    rows = {key: values.array() for key, values in found.rows.items()}
    answers = {key: values.array() for key, values in found.answers.items()}
    hints_labels = {"probabilities": found.classes} if found.classes else {}
    draft = msgspec.structs.replace(draft, labels={**hints_labels, **draft.labels})
    if found.has_named_classes:
        draft = msgspec.structs.replace(draft, label_of="probabilities")
    with staged(folder) as inside, tempfile.TemporaryDirectory() as place:
        artifact = Path(place) / f"model{_SUFFIX[candidate.format]}"
        artifact.write_bytes(candidate.data)
        categories = {name: tuple(values) for name, values in found.categories.items()}
        asked = Sample(columns={key: array for key, array in rows.items() if key != WHOLE}, categories=categories)
        created = _fill(
            draft,
            name,
            artifact,
            inside,
            asked,
            ImportOptions(),
            is_class=draft.classifier or found.classifier,
            examples_file=EXAMPLES_NAME,
            nullable=found.nullable,
        )
        _write(inside, EXAMPLES_NAME, [])
        table = as_table(read_manifest(inside), rows, answers)
        parity = compared(inside, rows, answers)
        if parity.problems:
            text = f"answers {len(parity.problems)} of {parity.rows} rows differently from the original ({parity.problems[0]})"
            raise InvalidPackage(text)
        origin = {
            **draft.origin,
            "format": created.format,
            "versions": dict(draft.versions),
            "converted": {
                "from": "pickle" if draft.is_pickle else "memory",
                "model": found.library,
                "isolation": list(found.isolation),
            },
            "parity": {
                "rows": parity.rows,
                "sample_rows": found.sample_rows,
                "largest_difference": parity.largest_difference,
            },
        }
        _write(inside, EXAMPLES_NAME, example_rows(table, min(MAX_EXAMPLES, found.sample_rows or MAX_EXAMPLES)))
        _write(inside, ORIGIN_NAME, origin)
        read_manifest(inside)
    return Imported(
        created=msgspec.structs.replace(created, folder=folder),
        name=name,
        kind=draft.kind,
        origin=origin,
        parity=parity,
        notes=(*draft.notes, *found.notes),
    )


def _fill(
    draft: Draft,
    name: str,
    artifact: Path,
    folder: Path,
    sample: Sample,
    options: ImportOptions,
    *,
    is_class: bool,
    examples_file: str = "",
    nullable: tuple[str, ...] = (),
) -> Created:
    is_given = options.sample is not None
    hints = Hints(
        origin=(f"Imported from {draft.origin['source']}; see {ORIGIN_NAME} for details.",),
        optional=frozenset((*(c.name for c in draft.columns if not c.is_required), *nullable)),
        labels=draft.labels,
        classes={"label": draft.label_of or "probabilities"} if is_class or draft.label_of else {},
        has_named_classes=bool(draft.label_of),
        max_rows=draft.max_rows,
        max_wait_ms=draft.max_wait_ms,
        is_batched=draft.is_batched,
        input_rows=draft.input_rows,
        output_rows=draft.output_rows,
        is_small=not is_given,
        examples_file=examples_file,
    )
    amend = amended(draft, tuple(name for name in sample.columns if name != WHOLE), is_class=is_class)
    fill = partial(fill_package, name, artifact, folder, hints=hints, amend=amend, ask=options.ask)
    if is_given:
        return fill(sample)
    try:
        return fill(sample if sample.columns else None)
    except InvalidPackage as exc:
        made = fill(None)
        note = f"{sample.source} does not fit the model and is not used: {exc.message}"
        return msgspec.structs.replace(made, notes=(*made.notes, note))


def _write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))
