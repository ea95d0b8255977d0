"""Matches columns of a sample to a model's inputs: by the model's own names, or by count if it has none.

Pure. Called by `authoring.scaffolding`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from limen.authoring.samples.sample import UNNAMED, Sample
from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import TensorSpec
from limen.packaging.importers.draft import WHOLE
from limen.runtime.predictor import Signature

MAX_LISTED: Final = 20
_ID: Final = re.compile(r"(?:.*[_\s.-])?(?:id|uuid|guid|index|rownames?|row_?id)", re.IGNORECASE)


def without_targets(sample: Sample, targets: Collection[str]) -> Sample:
    """Return a sample without columns that a person says are no inputs.

    Raises:
        InvalidPackage: it has no such column.
    """
    if unknown := [name for name in targets if name not in sample.columns]:
        text = (
            f"{sample.source} has no column {', '.join(unknown)} to leave out; it has {listed(tuple(sample.columns))}"
        )
        raise InvalidPackage(text)
    return sample.without(targets)


def matched(sample: Sample, signature: Signature, mentioned: Collection[str] = ()) -> Sample:
    """Return the columns of a sample that are a model's inputs, under its names, with what was left out in the notes.

    Args:
        sample: the rows.
        signature: the model's tensors; without inputs when it does not say what it takes.
        mentioned: names that the model's source code speaks of.

    Raises:
        InvalidPackage: no column is an input, or a matrix without names has another width.
    """
    tensors = signature.inputs
    if not tensors:
        return _for_code(sample, mentioned)
    if sample.whole is not None:
        return _whole(sample, tensors)
    width = _unnamed_width(tensors)
    if width is not None:
        return _by_number(sample, tensors[0], width)
    return _by_name(sample, [name for tensor in tensors for name in tensor.columns or (tensor.name,)])


def listed(names: Sequence[str]) -> str:
    """Return names in one line, not more than people read."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _unnamed_width(tensors: Sequence[TensorSpec]) -> int | None:
    """Return how many columns without names the only tensor has; None when it is no such matrix, -1 when any number."""
    shape = tensors[0].shape[1:]
    is_matrix = len(tensors) == 1 and len(shape) == 1 and not tensors[0].columns
    return shape[0] if is_matrix and shape != (1,) else None


def _for_code(sample: Sample, mentioned: Collection[str]) -> Sample:
    """Leave out what counts rows, unless the code speaks of it: a class declares no inputs."""
    counters = [name for name in _row_counters(sample) if name not in mentioned]
    if not counters or len(counters) == len(sample.columns):
        return sample
    note = (
        f"{sample.source}: left out {listed(counters)}, which only numbers the rows; add a field if the model needs it"
    )
    return sample.without(counters).with_note(note)


def _row_counters(sample: Sample) -> list[str]:
    """Return columns that name or number the rows: called like that, and with another value in every row."""
    found = []
    for name, values in sample.columns.items():
        if name == UNNAMED or _ID.fullmatch(name):
            seen = values.tolist() if values.ndim == 1 and values.dtype.kind in "iuOU" else []
            if name == UNNAMED or (seen and len(set(seen)) == len(seen)):
                found.append(name)
    return found


def _by_number(sample: Sample, tensor: TensorSpec, width: int) -> Sample:
    """Return as many columns as the matrix has, in their order."""
    if tensor.name in sample.columns and sample.columns[tensor.name].ndim > 1:
        return _by_name(sample, [tensor.name])
    if width in (-1, len(sample.columns)):
        return sample
    counters = _row_counters(sample)
    kept = sample.without(counters)
    if len(kept.columns) == width:
        return kept.with_note(f"{sample.source}: left out {listed(counters)}, which only number the rows")
    columns = tuple(sample.columns)
    text = f"{sample.source} has {len(columns)} columns but the model takes {width} and does not name them"
    if len(columns) > width:
        raise InvalidPackage(
            f"{text}. The file has {listed(columns)}; exclude columns that are not inputs with --target COLUMN"
        )
    raise InvalidPackage(
        f"{text}. The file has {listed(columns)}; give all columns of the training data in their original order"
    )


def _by_name(sample: Sample, wanted: Sequence[str]) -> Sample:
    own = tuple(sample.columns)
    alike: dict[str, list[str]] = {}
    for name in sample.columns:
        alike.setdefault(_spelling(name), []).append(name)
    renamed = {
        found[0]: name
        for name in wanted
        if name not in own and len(found := alike.get(_spelling(name), [])) == 1 and found[0] not in wanted
    }
    sample = sample.renamed(renamed)
    lacking = [name for name in wanted if name not in sample.columns]
    if len(lacking) == len(wanted):
        raise InvalidPackage(
            f"{sample.source} has none of the model's input columns. The model takes {listed(wanted)}; the "
            f"sample has {listed(own)}. Correct the header, or omit --sample"
        )
    unused = [name for name in sample.columns if name not in wanted]
    notes = [f"{sample.source} calls {name} {found}" for found, name in renamed.items()]
    if unused:
        notes.append(f"{sample.source}: left out {listed(unused)}, which the model does not take")
    if lacking:
        notes.append(f"{sample.source} lacks columns that the model takes: {listed(lacking)}")
    return sample.without(unused).with_note(*notes)


def _whole(sample: Sample, tensors: Sequence[TensorSpec]) -> Sample:
    """Return the only array under the name of the only tensor, or as the columns that the tensors or their columns name."""
    array = sample.columns[WHOLE]
    names = [name for tensor in tensors for name in tensor.columns or (tensor.name,)]
    shape = tensors[0].shape[1:]
    if len(names) > 1 and array.ndim == 2 and array.shape[1] == len(names):
        return sample.having(dict(zip(names, np.ascontiguousarray(array.T), strict=True)))
    if len(tensors) == 1 and array.ndim == 1 and shape in ((), (1,)):
        return sample.having({tensors[0].name: array})
    fits = len(array.shape[1:]) == len(shape) and all(w in (-1, g) for w, g in zip(shape, array.shape[1:], strict=True))
    if len(tensors) == 1 and not tensors[0].columns and fits:
        return sample.having({tensors[0].name: array})
    got = list(array.shape[1:])
    if len(tensors) == 1 and not tensors[0].columns:
        raise InvalidPackage(f"{sample.source} has rows of shape {got} but the model takes {list(shape)}")
    raise InvalidPackage(
        f"{sample.source} has rows of shape {got} but the model takes {len(names)} columns: {listed(names)}"
    )


def _spelling(name: str) -> str:
    """Return what is left of a name without what libraries replace: LightGBM writes `sepal_length` for `sepal length`."""
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")
