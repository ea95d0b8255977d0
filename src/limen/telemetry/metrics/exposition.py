"""The Prometheus text, made from totals and from values computed on demand.

A server with many endpoints has tens of thousands of lines, asked for every few seconds. So each metric has one template for all lines
of a series, and a series is one replacement and one formatting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from limen.telemetry.metrics.file import Labels
from limen.telemetry.metrics.histogram import SECONDS, SHOWN_SECONDS
from limen.telemetry.metrics.instrument import LABELS, Instrument, Kind, Scope
from limen.telemetry.metrics.instruments import TABLE, offset
from limen.telemetry.metrics.totals import Totals

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
"""Of the text; every Prometheus since 2014 takes it."""
_LABELS: Final = "\0"
"""Stands for the labels of a series in a template."""


class Reading(msgspec.Struct, frozen=True):
    """One sample that its maker knows: an instrument of scope `OBSERVED`, the values of its labels in order, and the number."""

    instrument: Instrument
    labels: Labels
    number: float


def exposition(totals: Totals, readings: Iterable[Reading] = ()) -> bytes:
    """Return everything as Prometheus text (`CONTENT_TYPE`); metrics without a series are left out.

    Args:
        totals: what processes have counted.
        readings: what is not counted by them; each instrument and its labels at most once.

    Raises:
        ValueError: a reading of something that is counted, or with the wrong number of labels.
    """
    given: dict[str, list[Reading]] = {}
    for reading in readings:
        instrument = reading.instrument
        if instrument.scope is not Scope.OBSERVED or len(reading.labels) != len(instrument.labels):
            raise ValueError(f"{instrument.name} is not read like this")
        given.setdefault(instrument.name, []).append(reading)
    pieces: list[str] = []
    series = {scope: _Series.of(totals, scope) for scope in Scope}
    for instrument in TABLE:
        found = [
            *_observed(instrument, given.get(instrument.name, ())),
            *_counted(instrument, series[instrument.scope]),
        ]
        if found:
            pieces += (_head(instrument), *found)
    return "".join(pieces).encode()


class _Series(NamedTuple):
    """Every series of one scope."""

    labels: list[str]
    """As they stand in the text, without braces."""
    cells: npt.NDArray[np.float64]

    @classmethod
    def of(cls, totals: Totals, scope: Scope) -> _Series:
        return cls([_said(LABELS[scope], labels) for labels in totals.series(scope)], totals.table(scope))


def _observed(instrument: Instrument, readings: Sequence[Reading]) -> Iterator[str]:
    for reading in readings:
        said = _said(instrument.labels, reading.labels)
        yield _template(instrument.name).replace(_LABELS, said) % float(reading.number)


def _counted(instrument: Instrument, series: _Series) -> Iterator[str]:
    if not series.labels:
        return
    template, first = _template(instrument.name), offset(instrument)
    cells = series.cells[:, first : first + instrument.cells]
    if instrument.kind is Kind.HISTOGRAM:
        upto = cells[:, :-1].cumsum(axis=1)[:, _shown(instrument)].astype(np.int64).tolist()
        numbers = [(*counts, counts[-1], total) for counts, total in zip(upto, cells[:, -1].tolist(), strict=True)]
    else:
        numbers = list(map(tuple, cells.tolist()))
    for labels, row in zip(series.labels, numbers, strict=True):
        yield template.replace(_LABELS, labels) % row


def _said(names: tuple[str, ...], values: Labels) -> str:
    """Return labels as they stand in a template."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


@cache
def _template(name: str) -> str:
    """Return the lines of a series of an instrument, with a place for the labels and one for each number."""
    instrument = next(i for i in TABLE if i.name == name)
    if instrument.kind is Kind.HISTOGRAM:
        bounds = [*instrument.bounds, math.inf]
        said = [f"{bounds[i]:g}" if bounds[i] < math.inf else "+Inf" for i in _shown(instrument)]
        lines = [f'{name}_bucket{{{_LABELS},le="{bound}"}} %d\n' for bound in said]
        return "".join((*lines, f"{name}_count{{{_LABELS}}} %d\n", f"{name}_sum{{{_LABELS}}} %r\n"))
    if instrument.values:
        own, comma = instrument.own_labels[0], "," if len(instrument.labels) > 1 else ""
        return "".join(f'{name}{{{_LABELS}{comma}{own}="{value}"}} %r\n' for value in instrument.values)
    return f"{name}{{{_LABELS}}} %r\n" if instrument.labels else f"{name} %r\n"


def _shown(instrument: Instrument) -> list[int]:
    """Return which buckets Prometheus is told of: fewer than there are, and always the last."""
    shown = SHOWN_SECONDS if instrument.bounds == SECONDS else frozenset(instrument.bounds)
    return [i for i, bound in enumerate((*instrument.bounds, math.inf)) if bound in shown or bound == math.inf]


def _head(instrument: Instrument) -> str:
    text = instrument.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {instrument.name} {text}\n# TYPE {instrument.name} {instrument.kind.value}\n"


def _escaped(value: str) -> str:
    """Return a value as it stands between quotes in a template: also safe from the formatting of numbers."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
