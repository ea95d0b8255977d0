"""The statistics extension of the protocol, from the metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from limen.contracts.oip.statistics import BatchStatistics, Duration, InferStatistics, Latency, ModelStatistics
from limen.telemetry.metrics import instruments as table
from limen.telemetry.metrics.file import Labels
from limen.telemetry.metrics.histogram import Histogram, empty
from limen.telemetry.metrics.instrument import Scope
from limen.telemetry.metrics.instruments import OK
from limen.telemetry.metrics.totals import Totals

_NS: Final = 1_000_000_000


def model_statistics(totals: Totals, keys: Iterable[tuple[str, str]]) -> list[ModelStatistics]:
    """Return what was counted for versions of models, over all protocols; zeros for one that was never asked."""
    asked: dict[tuple[str, str], list[Labels]] = {}
    for labels in totals.series(Scope.GATEWAY):
        asked.setdefault((labels[0], labels[1]), []).append(labels)
    return [_statistics(totals, key, asked.get(key, ())) for key in keys]


def _statistics(totals: Totals, key: tuple[str, str], protocols: Iterable[Labels]) -> ModelStatistics:
    name, version = key
    answered = empty(table.REQUEST_SECONDS.bounds)
    for labels in protocols:
        answered = answered.plus(totals.histogram(table.REQUEST_SECONDS, labels))
    outcomes = [totals.numbers(table.REQUESTS, labels) for labels in protocols]
    failed = sum(int(n) for found in outcomes for code, n in found.items() if code != OK)
    failed_s = sum(totals.number(table.FAILED_SECONDS, labels) for labels in protocols)
    rows = sum(totals.number(table.ANSWERED_ROWS, labels) for labels in protocols)
    run = totals.number(table.RUN_REQUESTS, key)
    run_s = totals.number(table.REQUEST_RUN_SECONDS, key)
    return ModelStatistics(
        name=name,
        version=version,
        last_inference=int(totals.number(table.LAST_RUN, key) * 1000),
        inference_count=int(rows),
        execution_count=totals.histogram(table.BATCH_ROWS, key).count,
        inference_stats=InferStatistics(
            success=_duration(answered.count, answered.sum),
            fail=_duration(failed, failed_s),
            queue=_all_of(totals.histogram(table.QUEUE_SECONDS, key)),
            compute_input=_duration(run, 0.0),
            compute_infer=_duration(run, run_s),
            compute_output=_duration(run, 0.0),
        ),
        batch_stats=_by_size(totals, key),
        latency=Latency(*(_ms(answered.percentile(q)) for q in (0.5, 0.95, 0.99))),
    )


def _by_size(totals: Totals, key: tuple[str, str]) -> tuple[BatchStatistics, ...]:
    runs = totals.histogram(table.BATCH_ROWS, key).counts
    seconds = totals.numbers(table.SIZE_SECONDS, key).values()
    # The bucket without a bound is named by the next power of 2, though it has no end.
    bounds = (*table.BATCH_ROWS.bounds, 2 * table.BATCH_ROWS.bounds[-1])
    return tuple(
        BatchStatistics(int(bound), _duration(n, 0.0), _duration(n, total), _duration(n, 0.0))
        for bound, n, total in zip(bounds, runs, seconds, strict=True)
        if n
    )


def _all_of(histogram: Histogram) -> Duration:
    return _duration(histogram.count, histogram.sum)


def _duration(count: float, seconds: float) -> Duration:
    return Duration(int(count), round(seconds * _NS))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 4)
