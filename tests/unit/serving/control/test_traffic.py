"""What callers have seen: since the start, and in the last minutes."""

from pathlib import Path

from limen.serving.control.traffic import STEP_S, WINDOW_S, Traffic
from limen.telemetry.metrics.series import Metrics
from limen.telemetry.metrics.totals import Totals, read_folder


def test_the_last_minutes_show_what_the_time_since_the_start_hides(tmp_path: Path):
    metrics = Metrics(tmp_path / "a.metrics")
    series, traffic, now = metrics.series("credit", "1", "rest"), Traffic(), 1000.0
    for _ in range(10_000):
        series.answered(0.001, 1)
    traffic.note(read_folder(tmp_path), now)
    while now < 1000.0 + WINDOW_S + 2 * STEP_S:
        now += STEP_S
        traffic.note(read_folder(tmp_path), now)
    for _ in range(10):
        series.answered(0.5, 1)
    series.failed("UNAVAILABLE", 0.1)
    view = traffic.views(read_folder(tmp_path), now)["credit"]
    assert (view.requests, view.errors) == (10_011, 1)
    assert view.p99_ms < 2
    recent = view.recent
    assert recent is not None
    assert (recent.over_s, recent.requests, recent.errors) == (WINDOW_S, 11, 1)
    assert recent.p50_ms > 400


def test_a_server_that_has_just_started_has_no_last_minutes_and_one_that_nobody_calls_no_traffic(tmp_path: Path):
    traffic = Traffic()
    assert traffic.views(Totals(), 5.0) == {}
    Metrics(tmp_path / "a.metrics").series("credit", "1", "rest").answered(0.001, 1)
    recent = traffic.views(read_folder(tmp_path), 5.0)["credit"].recent
    assert recent is not None
    assert (recent.over_s, recent.requests) == (0.0, 0)


def test_what_is_lost_does_not_make_requests_negative(tmp_path: Path):
    Metrics(tmp_path / "a.metrics").series("credit", "1", "rest").answered(0.001, 1)
    traffic = Traffic()
    traffic.note(read_folder(tmp_path), 1.0)
    (tmp_path / "a.metrics").unlink()
    Metrics(tmp_path / "b.metrics").series("credit", "1", "rest").failed("INTERNAL", 0.1)
    recent = traffic.views(read_folder(tmp_path), 2.0)["credit"].recent
    assert recent is not None
    assert (recent.requests, recent.errors) == (1, 1)
