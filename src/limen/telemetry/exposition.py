"""The text that Prometheus reads, made from totals and from what only its maker can see.

prometheus_client writes the text and nothing else: it is loaded when the first text is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from limen.telemetry.histogram import SECONDS, SHOWN_SECONDS, cumulative
from limen.telemetry.instruments import TABLE, Instrument, Kind, Scope
from limen.telemetry.metrics_file import Labels
from limen.telemetry.totals import Totals

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
"""Of the text; every Prometheus since 2014 takes it."""


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
    from prometheus_client.exposition import generate_latest

    given: dict[str, list[Reading]] = {}
    for reading in readings:
        instrument = reading.instrument
        if instrument.scope is not Scope.OBSERVED or len(reading.labels) != len(instrument.labels):
            raise ValueError(f"{instrument.name} is not read like this")
        given.setdefault(instrument.name, []).append(reading)
    families = (_family(instrument, totals, given.get(instrument.name, [])) for instrument in TABLE)
    return generate_latest(_Families([family for family in families if family.samples]))


class _Families:
    """What prometheus_client asks for metrics."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _family(instrument: Instrument, totals: Totals, readings: list[Reading]) -> Metric:
    if instrument.kind is Kind.HISTOGRAM:
        return _histogram(instrument, totals)
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if instrument.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(instrument.name, instrument.help, labels=instrument.labels)
    for reading in readings:
        family.add_metric(reading.labels, reading.number)
    for labels in totals.series(instrument.scope):
        if instrument.values:
            for value, number in totals.numbers(instrument, labels).items():
                family.add_metric((*labels, value), number)
        else:
            family.add_metric(labels, totals.number(instrument, labels))
    return family


def _histogram(instrument: Instrument, totals: Totals) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily

    shown = SHOWN_SECONDS if instrument.bounds == SECONDS else None
    family = HistogramMetricFamily(instrument.name, instrument.help, labels=instrument.labels)
    for labels in totals.series(instrument.scope):
        found = totals.histogram(instrument, labels)
        buckets = [(f"{bound:g}" if bound < math.inf else "+Inf", float(n)) for bound, n in cumulative(found, shown)]
        family.add_metric(labels, buckets, found.sum)
    return family
