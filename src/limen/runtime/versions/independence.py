"""Tests whether rows affect each other: runs different rows alone and together, and compares the answers.

A model whose answer to a row depends on the other rows of the run (a scale or a mean taken over the batch, a sort, the length of the longest
row) would answer one caller with another's data. It is served one request at a time, and so is one that could not be tested. Called
wherever a version is loaded (`runtime.versions.manager`), by `limen check` and when a package is tried out. What is asked comes from
`contracts.varied`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import ml_dtypes
import numpy as np

from limen.contracts.catalogue import Verdict
from limen.contracts.contract import Tolerance
from limen.contracts.errors import InvalidArgument, LimenError, PlatformError
from limen.contracts.independence import Independence
from limen.contracts.inference import InferenceRequest
from limen.contracts.tensors import Array
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.contracts.varied import base_rows, varied_row
from limen.runtime.predictor import Predictor
from limen.runtime.versions.warmup import outcome_of

LOAD_S: Final = 1.0
"""What the comparison may take when a version is loaded, apart from the shortest one: two rows alone and together."""
CHECK_S: Final = 10.0
"""The same for `limen check` and publishing."""
MAX_ROWS: Final = 12
MAX_RUN: Final = 33
"""Rows of the largest run: more than the blocks of eight and sixteen rows that numeric libraries work in."""
_MAX_BYTES: Final = 16 << 20
"""Of the inputs of one run."""
_ROUNDING: Final = 8
"""Units in the last place of the row's largest number: kernels add up in another order for another number of rows."""
_APART: Final = "each request runs separately"


class _Row:
    """One row and the model's answer to it alone."""

    def __init__(self, inputs: dict[str, Array], outputs: dict[str, Array]) -> None:
        self.inputs = inputs
        self.outputs = outputs


async def measure(
    check: ContractCheck, records: RecordCodec, predictor: Predictor, version: str, *, budget_s: float
) -> Independence:
    """Return whether rows change each other's answers. Never raises for what the model does.

    Args:
        check: the contract, compiled.
        records: reads its examples.
        predictor: the loaded model.
        version: its number, for the requests.
        budget_s: no run is begun after so many seconds, once the shortest comparison is done.
    """
    batching = check.contract.batching
    if predictor.can_stream:
        return _needless("a streaming model: its requests never share a run")
    if not batching.is_batched:
        return _needless("batching is none: every request is a separate run")
    if batching.max_rows == 1:
        return _needless("batching.max_rows is 1: every row runs separately")
    if batching.merge is False:
        return _needless(f"batching.merge is false: {_APART}", may_merge=False)
    comparison = _Comparison(check, predictor, version, budget_s)
    for base in base_rows(check.contract, records):
        comparison.add(base)
    try:
        return await comparison.conclude()
    except PlatformError as exc:
        return comparison.inconclusive(f"the model could not be tested: {exc.message}")


class _Comparison:
    """Rows by their sizes, each alone and then together."""

    def __init__(self, check: ContractCheck, predictor: Predictor, version: str, budget_s: float) -> None:
        self._check = check
        self._contract = check.contract
        self._predictor = predictor
        self._version = version
        self._budget_s = budget_s
        self._until = time.monotonic() + budget_s
        self._groups: dict[object, list[dict[str, Array]]] = {}
        self._asked = 0
        self._compared = 0
        self._largest = 0
        self._slow_s = 0.0
        self._varies = False

    def add(self, base: dict[str, Array]) -> None:
        """Take a one-row input to make rows from."""
        sizes = tuple((name, array.shape[1:]) for name, array in base.items())
        self._groups.setdefault(sizes, []).append(base)

    async def conclude(self) -> Independence:
        """Compare every group and return what was found."""
        mixes = self._predictor.mixes_rows
        if mixes:
            return _meets(mixes)
        for bases in self._groups.values():
            found = await self._compare(bases)
            if found is not None:
                return found
            if self._slow_s:
                break
        if self._slow_s:
            return self.inconclusive(f"one run takes {self._slow_s:.0f} s, too long for a test while it is loaded")
        if not self._compared:
            given = "one" if self._asked else "none"
            return self.inconclusive(f"the model answered {given} of the rows that were made from its contract")
        if not self._varies:
            return self.inconclusive(f"{self._compared} rows that differ all got the same answer")
        return Independence(
            verdict=Verdict.PASS,
            text=f"{self._compared} rows that differ get the same answers alone and in runs of up to {self._largest}",
            may_merge=True,
            rows=self._compared,
            largest_run=self._largest,
        )

    def inconclusive(self, why: str) -> Independence:
        """Return that nothing was found out, and what follows."""
        if self._contract.batching.merge:
            text = f"not tested: {why}; requests share runs because batching.merge says so"
            return Independence(verdict=Verdict.INCONCLUSIVE, text=text, may_merge=True)
        text = f"not tested: {why}; {_APART} until there are examples that differ or batching.merge is set"
        return Independence(verdict=Verdict.INCONCLUSIVE, text=text, may_merge=False)

    async def _compare(self, bases: Sequence[dict[str, Array]]) -> Independence | None:
        """Compare the rows of one size; return what settles the matter."""
        rows = await self._answered(bases)
        if len(rows) < 2:
            return None
        self._varies = self._varies or any(not self._agree(rows[0].outputs, row.outputs) for row in rows[1:])
        for order in self._orders(rows):
            if self._compared and time.monotonic() > self._until:
                break
            together = await self._ask(await asyncio.to_thread(_joined, [rows[i].inputs for i in order]), len(order))
            if together is None:
                return _breaks(len(order))
            place = await asyncio.to_thread(self._first_other, [rows[i] for i in order], together)
            if place is not None:
                one = _row_of(together, place)
                return await self._differs(rows[order[place]], one, len(order))
            self._largest = max(self._largest, len(order))
            self._compared = max(self._compared, len(rows))
        return None

    def _first_other(self, rows: Sequence[_Row], together: Mapping[str, Array]) -> int | None:
        """Return the place of the first row that is answered otherwise than alone."""
        places = range(len(rows))
        return next((i for i in places if not self._agree(rows[i].outputs, _row_of(together, i))), None)

    async def _differs(self, row: _Row, together: Mapping[str, Array], size: int) -> Independence:
        """Tell rows that influence each other from a model that never answers twice alike."""
        again = await self._ask(row.inputs, 1)
        if again is None or not self._agree(row.outputs, again):
            return self.inconclusive("the model answers the same row differently each time")
        changed = [name for name, array in row.outputs.items() if not self._agree({name: array}, together)]
        return _meets(f"{', '.join(changed)} of one row differs between a run of {size} rows and a separate run")

    async def _answered(self, bases: Sequence[dict[str, Array]]) -> list[_Row]:
        """Return rows of one size that the model answers alone: the given ones, then varied ones."""
        wanted = min(MAX_ROWS, self._fitting(bases[0]))
        found: list[_Row] = []
        seen: list[dict[str, Array]] = []
        for base, number in _sequence(bases):
            inputs = await asyncio.to_thread(varied_row, self._contract, base, number)
            if len(found) >= wanted or (len(found) > 1 and time.monotonic() > (self._until - self._budget_s / 2)):
                break
            if any(_equal(inputs, other) for other in seen):
                continue
            seen.append(inputs)
            begun = time.monotonic()
            outputs = await self._ask(inputs, 1)
            if time.monotonic() - begun > 4 * self._budget_s:
                self._slow_s = time.monotonic() - begun
                return []
            if outputs is not None:
                self._asked += 1
                found.append(_Row(inputs, outputs))
        return found

    def _fitting(self, inputs: Mapping[str, Array]) -> int:
        """Return how many such rows may be asked at once: no more than the model takes, and than memory should hold."""
        size = sum(array.nbytes for array in inputs.values())
        return max(2, min(MAX_RUN, self._contract.batching.max_rows, _MAX_BYTES // max(1, size)))

    def _orders(self, rows: Sequence[_Row]) -> list[list[int]]:
        """Return the runs to compare, as places of rows: all, all from behind, two, and the largest one."""
        count = len(rows)
        straight = list(range(count))
        largest = self._fitting(rows[0].inputs)
        shuffled = [(7 * i + 3) % count if count % 7 else (5 * i + 3) % count for i in range(largest)]
        found = [straight, straight[::-1], [count - 1, 0]]
        return [*found, shuffled] if largest > count else found

    async def _ask(self, inputs: Mapping[str, Array], rows: int) -> dict[str, Array] | None:
        """Return the model's answer to so many rows; None when there is none."""
        given = dict(inputs)
        try:
            self._check.check_inputs(given)
        except InvalidArgument:
            return None
        request = InferenceRequest(self._contract.name, given, self._version, rows=rows, checked=self._check)
        request.is_trial = True
        outcome = await outcome_of(self._predictor, request)
        if isinstance(outcome, PlatformError):
            raise outcome
        if isinstance(outcome, LimenError):
            return None
        if any(array.ndim == 0 or len(array) != rows for array in outcome.outputs.values()):
            return None
        # Of a process placement they may lie in memory that the next answer takes.
        return {name: np.array(array) for name, array in outcome.outputs.items()}

    def _agree(self, alone: Mapping[str, Array], together: Mapping[str, Array]) -> bool:
        tolerance = self._contract.tolerance
        return all(name in together and same_row(array, together[name], tolerance) for name, array in alone.items())


def same_row(alone: Array, together: Array, tolerance: Tolerance) -> bool:
    """Return whether two answers to one row differ by no more than the tolerance and the rounding of their type."""
    if alone.shape != together.shape:
        return False
    is_float = alone.dtype.kind == "f" or alone.dtype == ml_dtypes.bfloat16
    if not is_float:
        return bool(np.array_equal(alone, together))
    want, got = alone.astype(np.float64), together.astype(np.float64)
    with np.errstate(all="ignore"):
        largest = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
        step = float(ml_dtypes.finfo(alone.dtype).eps)  # type: ignore[no-untyped-call] # published without types
        rounding = _ROUNDING * step * largest
        close = np.abs(want - got) <= tolerance.absolute + tolerance.relative * np.abs(want) + rounding
    # An infinite number is its own tolerance, and agrees with itself only.
    close &= np.isfinite(want) & np.isfinite(got)
    return bool((close | (want == got) | (np.isnan(want) & np.isnan(got))).all())


def _needless(text: str, *, may_merge: bool = True) -> Independence:
    return Independence(verdict=Verdict.PASS, text=text, may_merge=may_merge)


def _meets(why: str) -> Independence:
    return Independence(
        verdict=Verdict.FAIL, text=f"rows influence each other: {why}; {_APART}, with all of its rows", may_merge=False
    )


def _breaks(size: int) -> Independence:
    text = f"a run of {size} rows fails, though the model answers each of them alone: set batching.max_rows to 1"
    return Independence(verdict=Verdict.FAIL, text=text, may_merge=False, breaks=True)


def _sequence(bases: Sequence[dict[str, Array]]) -> Iterator[tuple[dict[str, Array], int]]:
    """Yield what to ask, most telling first: an example, the same a hundred times as large, the other examples, more of each."""
    yield bases[0], 0
    yield bases[0], 1
    yield from ((base, 0) for base in bases[1:])
    for number in range(2, MAX_ROWS * 2):
        yield bases[number % len(bases)], number


def _joined(rows: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _row_of(outputs: Mapping[str, Array], place: int) -> dict[str, Array]:
    return {name: array[place : place + 1] for name, array in outputs.items()}


def _equal(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return all(np.array_equal(array, other[name], equal_nan=array.dtype.kind == "f") for name, array in one.items())
