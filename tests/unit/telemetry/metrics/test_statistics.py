"""The statistics extension's numbers, made from counts."""

from pathlib import Path

import msgspec
import pytest

from limen.contracts.oip.statistics import ModelStatistics, StatisticsDocument
from limen.telemetry.metrics.series import Metrics
from limen.telemetry.metrics.statistics import model_statistics
from limen.telemetry.metrics.totals import Totals, read_folder

MODEL_STAT = {
    *("name", "version", "last_inference", "inference_count", "execution_count"),
    *("inference_stats", "response_stats", "batch_stats", "memory_usage", "latency"),
}
INFERENCE_STATS = {
    *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"),
}


@pytest.fixture
def totals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Totals:
    monkeypatch.setattr("limen.telemetry.metrics.series.time.time", lambda: 1_700_000_000.25)
    metrics = Metrics(tmp_path / "a.metrics")
    for protocol in ("rest", "grpc"):
        series = metrics.series("credit", "1", protocol)
        for _ in range(10):
            series.answered(0.002, 4)
        series.failed("INTERNAL", 0.5)
    runtime = metrics.runtime("credit", "1")
    runtime.batch("idle", 4, 1, 0.001)
    runtime.ran(4, 0.004, 1)
    runtime.ran(70_000, 0.5, 10)
    metrics.series("credit", "2", "rest").answered(9.0, 0)
    return read_folder(tmp_path)


def test_protocols_are_added_and_versions_are_not(totals: Totals):
    found = model_statistics(totals, [("credit", "1")])[0]
    stats = found.inference_stats
    assert (found.inference_count, found.execution_count, found.last_inference) == (80, 2, 1_700_000_000_250)
    assert (stats.success.count, stats.success.ns) == (20, 40_000_000)
    assert (stats.fail.count, stats.fail.ns) == (2, 1_000_000_000)
    assert (stats.queue.count, stats.queue.ns) == (1, 1_000_000)
    assert (stats.compute_infer.count, stats.compute_infer.ns) == (11, 5_004_000_000)
    assert (stats.compute_input.count, stats.compute_input.ns) == (11, 0)


def test_runs_are_told_by_size(totals: Totals):
    found = model_statistics(totals, [("credit", "1")])[0].batch_stats
    assert [(b.batch_size, b.compute_infer.count, b.compute_infer.ns) for b in found] == [
        (4, 1, 4_000_000),
        (131_072, 1, 500_000_000),
    ]


def test_percentiles_are_in_milliseconds(totals: Totals):
    latency = model_statistics(totals, [("credit", "1")])[0].latency
    assert latency.p50_ms == pytest.approx(2.0, rel=0.13)
    assert latency.p50_ms <= latency.p95_ms <= latency.p99_ms <= 2.0


def test_a_version_that_was_never_asked_has_zeros(totals: Totals):
    found = model_statistics(totals, [("credit", "3")])[0]
    assert found == ModelStatistics("credit", "3")
    assert found.latency.p99_ms is None


def test_the_json_has_tritons_names(totals: Totals):
    document = msgspec.json.decode(
        msgspec.json.encode(StatisticsDocument([model_statistics(totals, [("credit", "1")])[0]]))
    )
    [entry] = document["model_stats"]
    assert set(entry) == MODEL_STAT
    assert set(entry["inference_stats"]) == INFERENCE_STATS
    assert all(set(leaf) == {"count", "ns"} for leaf in entry["inference_stats"].values())
    assert set(entry["batch_stats"][0]) == {"batch_size", "compute_input", "compute_infer", "compute_output"}
    assert entry["response_stats"] == {}
    assert entry["memory_usage"] == []
    assert set(entry["latency"]) == {"p50_ms", "p95_ms", "p99_ms"}
