"""The text for Prometheus, judged by the parser of its own client."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from limen.telemetry.metrics import instruments as table
from limen.telemetry.metrics.exposition import Reading, exposition
from limen.telemetry.metrics.instrument import Kind, Scope
from limen.telemetry.metrics.instruments import TABLE
from limen.telemetry.metrics.series import Metrics
from limen.telemetry.metrics.totals import Totals, read_folder

READINGS = [
    Reading(table.REPLICAS, ("credit", "1", "ready"), 2),
    Reading(table.REPLICA_STATE, ("credit", "1", "r-1", "ready"), 1),
    Reading(table.PROCESS_STATE, ("gateway-1", "running"), 1),
    Reading(table.RESIDENT_BYTES, ("gateway-1",), 123_456_789),
    Reading(table.OPEN_FILES, ("gateway-1",), 40),
    Reading(table.MAX_OPEN_FILES, ("gateway-1",), 1024),
    Reading(table.RESTARTS, ("gateway-1",), 3),
    Reading(table.HANGS, ("gateway-1",), 1),
    Reading(table.DISK_FREE, (), 1 << 40),
    Reading(table.ENDPOINT_CONDITION, ("credit", "Ready", "true"), 1),
    Reading(table.ENDPOINT_CONDITION_REASON, ("credit", "Degraded", "VersionFailed"), 1),
    Reading(table.SERVER_CONDITION, ("Ready", "true"), 1),
    Reading(table.REVISION, (), 7),
    Reading(table.REPORT_AGE, ("gateway-1",), 0.5),
    Reading(table.BUILD_INFO, ("0.1.0", "3.11.7", "x86_64"), 1),
    Reading(table.SERVER_CONDITION_REASON, ("Stale", "RegistryUnavailable"), 1),
]


@pytest.fixture
def totals(tmp_path: Path) -> Totals:
    for name in ("a", "b"):
        metrics = Metrics(tmp_path / f"{name}.metrics")
        series, runtime = metrics.series("credit", "1", "rest"), metrics.runtime("credit", "1")
        series.answered(0.0015, 0)
        series.answered(0.02, 0)
        series.failed("UNAVAILABLE", 0.5)
        runtime.batch("full", 8, 2, 0.001)
        runtime.ran(8, 0.004, 2)
        metrics.process.observe(connections=4, in_flight=1, dropped_lines=0)
    return read_folder(tmp_path)


def parsed(text: bytes):
    families = list(text_string_to_metric_families(text.decode()))
    samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}
    return families, samples


def test_every_metric_of_the_table_is_in_the_text_with_its_kind_labels_and_help(totals: Totals):
    families, _ = parsed(exposition(totals, READINGS))
    found = {f.name: f for f in families}
    assert len(found) == len(TABLE)
    for instrument in TABLE:
        family = found[instrument.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (instrument.kind.value, instrument.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(instrument.labels)


def test_the_numbers_are_the_counted_ones(totals: Totals):
    _, samples = parsed(exposition(totals, READINGS))
    key = (("endpoint", "credit"), ("protocol", "rest"), ("version", "1"))
    assert samples["limen_gateway_requests_total", (("code", "OK"), *key)] == 4
    assert samples["limen_gateway_requests_total", (("code", "UNAVAILABLE"), *key)] == 2
    assert samples["limen_gateway_requests_total", (("code", "INTERNAL"), *key)] == 0
    assert samples["limen_gateway_request_seconds_count", key] == 4
    assert samples["limen_gateway_request_seconds_sum", key] == pytest.approx(0.043)
    assert samples["limen_gateway_failed_seconds_total", key] == 1
    runtime = (("endpoint", "credit"), ("version", "1"))
    assert samples["limen_runtime_batches_total", (runtime[0], ("reason", "full"), runtime[1])] == 2
    assert samples["limen_runtime_batch_rows_bucket", (runtime[0], ("le", "4"), runtime[1])] == 0
    assert samples["limen_runtime_batch_rows_bucket", (runtime[0], ("le", "8"), runtime[1])] == 2
    assert samples["limen_gateway_connections", (("protocol", "http"),)] == 8
    assert samples["limen_process_resident_bytes", (("process", "gateway-1"),)] == 123_456_789


def test_buckets_ascend_and_end_with_the_count(totals: Totals):
    families, _ = parsed(exposition(totals))
    for family in families:
        if family.type == "histogram":
            buckets = [s for s in family.samples if s.name.endswith("_bucket")]
            bounds = [float(s.labels["le"]) for s in buckets]
            assert bounds == sorted(set(bounds))
            assert bounds[-1] == float("inf")
            assert [s.value for s in buckets] == sorted(s.value for s in buckets)
            [count] = [s.value for s in family.samples if s.name.endswith("_count")]
            assert buckets[-1].value == count


def test_what_nobody_has_counted_is_left_out():
    assert exposition(Totals()) == b""
    families, _ = parsed(exposition(Totals(), READINGS))
    assert len(families) == len([i for i in TABLE if i.scope is Scope.OBSERVED])


@pytest.mark.parametrize(
    "reading",
    [Reading(table.REQUESTS, ("credit", "1", "rest", "OK"), 1), Reading(table.REPLICAS, ("credit",), 1)],
    ids=["counted elsewhere", "labels"],
)
def test_a_reading_that_is_none_is_refused(reading: Reading):
    with pytest.raises(ValueError, match="is not read like this"):
        exposition(Totals(), [reading])


def test_labels_are_escaped_and_stay_labels():
    strange = 'a"b\\c\nd%s'
    _, samples = parsed(exposition(Totals(), [Reading(table.RESTARTS, (strange,), 2.5)]))
    assert samples == {("limen_process_restarts_total", (("process", strange),)): 2.5}


def test_kinds_are_those_of_prometheus():
    assert {k.value for k in Kind} == {"counter", "gauge", "histogram"}
