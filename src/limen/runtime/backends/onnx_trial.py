"""Determines an ONNX graph's real output shapes: files may declare others, and ONNX Runtime only warns.

CatBoost declares `[N]` and gives `[N, 1]`; skl2onnx declares `[N, 1]` for a forest with two targets. A run with made-up values settles it.
Only what a run contradicts is corrected: a size that the file leaves open stays open. Called by `backends.onnx`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from limen.contracts.tensors import BY_NAME, Array, TensorSpec

ROWS: Final = (2, 3)
"""Rows of the two runs: what is as long as each of them is the batch."""
FREE: Final = ((7, 5), (1, 1), (64, 32))
"""Lengths of the other free axes in the two runs; the next pair when a graph does not take the last one."""
MAX_BYTES: Final = 16 << 20
"""Inputs larger than this are not made up, of as few rows as there can be: their graph is taken by its word."""

Shapes = dict[str, tuple[int, ...]]


def corrected(session: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the outputs with the shapes that a run gives where it contradicts the file; as declared when no run succeeds."""
    names = [spec.name for spec in outputs]
    for free in FREE:
        first = _shapes(session, names, _made_up(inputs, ROWS[0], free[0]))
        if first is None:
            continue
        if all(_agrees(spec.shape, first.get(spec.name), _rows(inputs, ROWS[0])) for spec in outputs):
            return tuple(outputs)
        second = _shapes(session, names, _made_up(inputs, ROWS[1], free[1]))
        if second is None:
            continue
        return tuple(_corrected(spec, first.get(spec.name), second.get(spec.name), inputs) for spec in outputs)
    return tuple(outputs)


def _rows(inputs: Sequence[TensorSpec], wanted: int) -> int:
    """Return how many rows a run has: those wanted, or those the file fixes."""
    fixed = [spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] > 0]
    return fixed[0] if fixed else wanted


def _made_up(inputs: Sequence[TensorSpec], rows: int, free: int) -> dict[str, Array] | None:
    """Return ones, as an index within most tables; None when that would take too much memory."""
    made: dict[str, Array] = {}
    rows = _rows(inputs, rows)
    for spec in inputs:
        element = BY_NAME[spec.type]
        shape = [d if d >= 0 else (rows if axis == 0 else free) for axis, d in enumerate(spec.shape)]
        if int(np.prod(shape, dtype=np.int64)) * (element.size or 8) > MAX_BYTES:
            return None
        made[spec.name] = np.full(shape, "1" if element.dtype == object else 1, element.dtype)
    return made


def _shapes(session: Any, names: Sequence[str], feeds: Mapping[str, Array] | None) -> Shapes | None:
    if feeds is None:
        return None
    for values in (feeds, {name: _zeros(array) for name, array in feeds.items()}):
        try:
            found = session.run(list(names), dict(values))
        except Exception:  # noqa: BLE001, S112 - a graph that does not take these values says nothing
            continue
        return {name: array.shape for name, array in zip(names, found, strict=True) if isinstance(array, np.ndarray)}
    return None


def _zeros(array: Array) -> Array:
    return np.full_like(array, "0" if array.dtype == object else 0)


def _agrees(declared: tuple[int, ...], given: tuple[int, ...] | None, rows: int) -> bool:
    """Return whether a shape may be what was declared. One that holds nothing says nothing."""
    if given is None or 0 in given:
        return True
    if not declared:
        return False
    pairs = list(zip(declared, given, strict=False))
    if len(declared) != len(given) or any(d not in (-1, g) for d, g in pairs[1:]):
        return False
    return declared[0] in (-1, given[0]) or given[0] != rows


def _corrected(
    spec: TensorSpec, first: tuple[int, ...] | None, second: tuple[int, ...] | None, inputs: Sequence[TensorSpec]
) -> TensorSpec:
    rows = _rows(inputs, ROWS[0])
    if first is None or second is None or len(first) != len(second) or _agrees(spec.shape, first, rows):
        return spec
    shape = [a if a == b else -1 for a, b in zip(first, second, strict=True)]
    if len(spec.shape) == len(shape):
        # What the file leaves open may depend on values.
        shape[1:] = [-1 if d == -1 else s for d, s in zip(spec.shape[1:], shape[1:], strict=True)]
    return TensorSpec(spec.name, spec.type, tuple(shape), spec.columns)
