"""Counting in files: nothing is lost over restarts and processes, and nothing foreign is counted."""

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.errors import ErrorCode
from limen.telemetry.metrics import file as metrics_file
from limen.telemetry.metrics import instruments as table
from limen.telemetry.metrics.file import FIRST_SLOTS, HEADER_BYTES, LABEL_BYTES, SLOT_BYTES, size_of
from limen.telemetry.metrics.instrument import RETIRED, Scope
from limen.telemetry.metrics.series import LINGER_S, Metrics
from limen.telemetry.metrics.totals import Totals, errors, read_folder

KEY = ("credit", "1", "rest")
RUNTIME = ("credit", "1")

COUNT = """
import sys
from pathlib import Path
from limen.telemetry.metrics.series import Metrics
metrics = Metrics(Path(sys.argv[1]))
series, runtime = metrics.series("credit", "1", "rest"), metrics.runtime("credit", "1")
for _ in range(int(sys.argv[2])):
    series.answered(0.004, 3)
    runtime.ran(3, 0.002)
metrics.series("credit", "1", sys.argv[3]).failed("INTERNAL", 0.5)
metrics.process.observe(connections=5, in_flight=2, dropped_lines=7)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway-1.metrics"


def answered(totals: Totals, key: tuple[str, ...] = KEY) -> int:
    return int(totals.number(table.REQUESTS, key, "OK"))


def test_what_is_counted_can_be_read(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    series, runtime = metrics.series(*KEY), metrics.runtime(*RUNTIME)
    for seconds in (0.001, 0.002, 0.004):
        series.answered(seconds, 4)
    series.failed(ErrorCode.INVALID_ARGUMENT, 0.25)
    runtime.batch("window", 12, 3, 0.0005)
    runtime.ran(12, 0.003, 3)
    runtime.model_failure()
    runtime.fallback()
    runtime.shed("time")
    runtime.cancelled()
    totals = read_folder(tmp_path)
    latency = totals.histogram(table.REQUEST_SECONDS, KEY)
    assert (latency.count, latency.sum) == (3, pytest.approx(0.007))
    assert totals.numbers(table.REQUESTS, KEY) == dict.fromkeys(table.OUTCOMES, 0.0) | {"OK": 3, "INVALID_ARGUMENT": 1}
    assert totals.number(table.FAILED_SECONDS, KEY) == 0.25
    assert totals.number(table.ANSWERED_ROWS, KEY) == 12
    assert totals.number(table.BATCHES, RUNTIME, "window") == 1
    assert totals.histogram(table.QUEUE_SECONDS, RUNTIME).sum == 0.0005
    assert totals.histogram(table.BATCH_ROWS, RUNTIME).sum == 12
    assert totals.histogram(table.BATCH_SECONDS, RUNTIME).sum == 0.003
    assert totals.number(table.SIZE_SECONDS, RUNTIME, "16") == 0.003
    assert totals.number(table.RUN_REQUESTS, RUNTIME) == 3
    assert totals.number(table.REQUEST_RUN_SECONDS, RUNTIME) == pytest.approx(0.009)
    assert totals.number(table.LAST_RUN, RUNTIME) > 1.7e9
    for once in (table.MODEL_FAILURES, table.FALLBACKS, table.CANCELLED):
        assert totals.number(once, RUNTIME) == 1
    assert totals.number(table.SHED, RUNTIME, "time") == 1


def test_every_error_code_and_reason_has_a_cell_and_an_unknown_one_does_no_harm(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    for code in ErrorCode:
        metrics.series(*KEY).failed(code.value, 0.0)
    metrics.series(*KEY).failed("NONSENSE", 0.0)
    for reason in (*table.RELEASES, "nonsense"):
        metrics.runtime(*RUNTIME).batch(reason, 1, 1, 0.0)
    for reason in (*table.SHEDS, "nonsense"):
        metrics.runtime(*RUNTIME).shed(reason)
    totals = read_folder(tmp_path)
    assert totals.numbers(table.REQUESTS, KEY) == dict.fromkeys(table.OUTCOMES, 1.0) | {"OK": 0, "INTERNAL": 2}
    assert totals.numbers(table.BATCHES, RUNTIME) == dict.fromkeys(table.RELEASES, 1.0) | {"other": 2}
    assert totals.numbers(table.SHED, RUNTIME) == dict.fromkeys(table.SHEDS, 1.0) | {"other": 2}


def test_times_of_any_size_are_counted(path: Path, tmp_path: Path):
    series = Metrics(path).series(*KEY)
    for seconds in (0.0, -1e-9, 1e-9, 63.0, 64.0, 1e9):
        series.answered(seconds, 0)
    assert sum(read_folder(tmp_path).histogram(table.REQUEST_SECONDS, KEY).counts) == 6


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.floats(0, 100), st.booleans()), max_size=60))
def test_counts_are_conserved(tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, str, float, bool]]):
    folder = tmp_path_factory.mktemp("metrics")
    processes = {name: Metrics(folder / f"{name}.metrics") for name in "ab"}
    for process, version, seconds, is_good in events:
        series = processes[process].series("m", version, "grpc")
        series.answered(seconds, 0) if is_good else series.failed("INTERNAL", seconds)
    totals = read_folder(folder)
    outcomes = [totals.numbers(table.REQUESTS, labels) for labels in totals.series(Scope.GATEWAY)]
    assert sum(found["OK"] for found in outcomes) == sum(is_good for *_, is_good in events)
    assert sum(found["INTERNAL"] for found in outcomes) == sum(not is_good for *_, is_good in events)
    for metrics in processes.values():
        metrics.close()


def test_two_processes_are_summed(tmp_path: Path):
    """Both are real ones, and what they had open ended with them."""
    for name, count in (("one", 3), ("two", 4)):
        command = [sys.executable, "-c", COUNT, str(tmp_path / f"{name}.metrics"), str(count), name]
        subprocess.run(command, check=True, timeout=60)
    totals = read_folder(tmp_path)
    assert totals.files == 2
    assert answered(totals) == 7
    assert totals.number(table.ANSWERED_ROWS, KEY) == 21
    assert totals.histogram(table.BATCH_ROWS, RUNTIME).count == 7
    assert totals.number(table.DROPPED_LINES) == 14
    assert totals.number(table.CONNECTIONS) == totals.number(table.IN_FLIGHT) == 0
    assert set(totals.series(Scope.GATEWAY)) == {KEY, ("credit", "1", "one"), ("credit", "1", "two")}


def test_the_last_run_of_several_processes_is_the_latest_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, at in (("a", 5.0), ("b", 9.0), ("c", 7.0)):
        monkeypatch.setattr("limen.telemetry.metrics.series.time.time", lambda at=at: at)
        Metrics(tmp_path / f"{name}.metrics").runtime(*RUNTIME).ran(1, 0.1)
    assert read_folder(tmp_path).number(table.LAST_RUN, RUNTIME) == 9.0


def test_a_restarted_process_goes_on_counting(path: Path, tmp_path: Path):
    before = Metrics(path)
    before.series(*KEY).answered(0.1, 0)
    before.process.observe(connections=3, in_flight=1, dropped_lines=4)
    before.close()
    after = Metrics(path)
    assert read_folder(tmp_path).number(table.CONNECTIONS) == 0
    after.series(*KEY).answered(0.1, 0)
    after.series("other", "2", "grpc").answered(0.1, 0)
    after.process.observe(connections=2, in_flight=0, dropped_lines=1)
    totals = read_folder(tmp_path)
    assert answered(totals) == 2
    assert totals.files == 1
    assert answered(totals, ("other", "2", "grpc")) == 1
    assert totals.number(table.CONNECTIONS) == 2
    assert totals.number(table.DROPPED_LINES) == 5


def test_lost_log_lines_are_counted_once(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    for dropped in (2, 2, 5):
        metrics.process.observe(connections=1, in_flight=1, dropped_lines=dropped)
    assert read_folder(tmp_path).number(table.DROPPED_LINES) == 5


def test_a_file_has_one_writer(path: Path):
    first = Metrics(path)
    with pytest.raises(BlockingIOError):
        Metrics(path)
    first.close()
    Metrics(path).close()


def test_a_series_is_the_same_object_every_time(path: Path):
    metrics = Metrics(path)
    assert metrics.series(*KEY) is metrics.series(*KEY)
    assert metrics.runtime(*RUNTIME) is metrics.runtime(*RUNTIME)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[: HEADER_BYTES + 10],
        lambda data: b"NOTLIMEN" + data[8:],
        lambda data: data[:8] + b"\1" * 8 + data[16:],
        lambda data: data[:24] + (1 << 40).to_bytes(8, sys.byteorder) + data[32:],
        lambda data: b"\xff" * len(data),
    ],
    ids=["empty", "header", "cut", "magic", "layout", "count", "noise"],
)
def test_a_torn_or_foreign_file_is_skipped_and_replaced_by_its_owner(path: Path, tmp_path: Path, damage):
    good = Metrics(tmp_path / "good.metrics")
    good.series(*KEY).answered(0.1, 0)
    bad = Metrics(path)
    bad.series(*KEY).answered(0.1, 0)
    bad.close()
    path.write_bytes(damage(path.read_bytes()))
    totals = read_folder(tmp_path)
    assert (totals.files, answered(totals)) == (1, 1)
    Metrics(path).series(*KEY).answered(0.1, 0)
    totals = read_folder(tmp_path)
    assert (totals.files, answered(totals)) == (2, 2)


def test_a_slot_whose_labels_make_no_sense_is_skipped_alone(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    metrics.series("bad", "1", "rest").answered(0.1, 0)
    metrics.series(*KEY).answered(0.1, 0)
    metrics.close()
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + SLOT_BYTES)
        file.write(b"\xff" * LABEL_BYTES)
    totals = read_folder(tmp_path)
    assert totals.series(Scope.GATEWAY) == [KEY]
    again = Metrics(path)
    again.series("bad", "1", "rest").answered(0.1, 0)
    assert answered(read_folder(tmp_path), ("bad", "1", "rest")) == 1


def test_a_series_is_seen_only_when_it_is_whole(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A reader that comes between the writing of a slot and its publication sees the state before."""
    metrics = Metrics(path)
    seen = []
    write = os.pwrite

    def pwrite(*arguments):
        written = write(*arguments)
        seen.append(read_folder(tmp_path).series(Scope.GATEWAY))
        return written

    monkeypatch.setattr(metrics_file.os, "pwrite", pwrite)
    metrics.series(*KEY)
    assert seen == [[]]
    assert read_folder(tmp_path).series(Scope.GATEWAY) == [KEY]


def test_f10_what_is_counted_on_a_full_disk_is_seen_when_there_is_room(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    with pytest.MonkeyPatch.context() as full:

        def pwrite(*_):
            raise OSError(28, "No space left on device")

        full.setattr(metrics_file.os, "pwrite", pwrite)
        metrics.series(*KEY).answered(0.1, 0)
        metrics.series(*KEY).answered(0.1, 0)
        metrics.keep({RUNTIME}, 0.0)
        totals = read_folder(tmp_path)
        assert totals.series(Scope.GATEWAY) == []
        assert totals.number(table.LOST_SERIES) == 1
    metrics.keep({RUNTIME}, 1.0)
    metrics.series(*KEY).answered(0.1, 0)
    totals = read_folder(tmp_path)
    assert (answered(totals), totals.number(table.LOST_SERIES)) == (3, 0)


def test_f10_the_first_series_find_their_room_taken_ahead(path: Path):
    Metrics(path)
    if hasattr(os, "posix_fallocate"):
        assert path.stat().st_blocks * 512 >= size_of(FIRST_SLOTS)


def test_f10_without_room_for_more_a_file_grows_when_there_is_some(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    with pytest.MonkeyPatch.context() as full:

        def none(*_):
            raise OSError(28, "No space left on device")

        full.setattr(metrics_file.os, "posix_fallocate", none, raising=False)
        for i in range(2 * FIRST_SLOTS):
            metrics.series("m", str(i), "rest").answered(0.1, 0)
    assert read_folder(tmp_path).number(table.LOST_SERIES) == 0
    assert len(read_folder(tmp_path).series(Scope.GATEWAY)) == 2 * FIRST_SLOTS


def test_a_file_grows_with_its_series_and_loses_none(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    kept = [metrics.series("m", str(i), "rest") for i in range(20 * FIRST_SLOTS)]
    for series in kept:
        series.answered(0.1, 0)
    totals = read_folder(tmp_path)
    assert [answered(totals, ("m", str(i), "rest")) for i in range(len(kept))] == [1] * len(kept)
    assert totals.number(table.LOST_SERIES) == 0
    metrics.close()
    again = Metrics(path)
    again.series("m", "7", "rest").answered(0.1, 0)
    assert answered(read_folder(tmp_path), ("m", "7", "rest")) == 2


def test_what_versions_that_are_gone_counted_stays_in_the_sums_and_their_room_is_used_again(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    for number in range(1, 1001):
        now = number * LINGER_S
        metrics.keep({("credit", str(number))}, now)
        metrics.keep({("credit", str(number))}, now + LINGER_S)
        for protocol in ("rest", "grpc"):
            metrics.series("credit", str(number), protocol).answered(0.1, 0)
        metrics.runtime("credit", str(number)).ran(1, 0.1)
        totals = read_folder(tmp_path)
        assert sum(answered(totals, labels) for labels in totals.series(Scope.GATEWAY)) == 2 * number
    assert answered(totals, ("credit", RETIRED, "rest")) == 999
    assert totals.histogram(table.BATCH_ROWS, ("credit", RETIRED)).count == 999
    assert path.stat().st_size == size_of(FIRST_SLOTS)


def test_a_version_that_comes_back_soon_goes_on_where_it_was(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    metrics.series(*KEY).answered(0.1, 0)
    metrics.keep({("credit", "2")}, 0.0)
    metrics.keep({("credit", "2")}, LINGER_S - 1)
    metrics.keep({("credit", "1")}, LINGER_S)
    metrics.keep({("credit", "2")}, LINGER_S + 1)
    metrics.series(*KEY).answered(0.1, 0)
    assert answered(read_folder(tmp_path)) == 2


def test_a_late_request_of_a_version_that_is_gone_is_counted(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    late = metrics.series(*KEY)
    metrics.keep({("credit", "2")}, 0.0)
    metrics.keep({("credit", "2")}, LINGER_S)
    metrics.series("credit", "2", "rest").answered(0.1, 0)
    late.answered(0.1, 0)
    totals = read_folder(tmp_path)
    assert (answered(totals, ("credit", "2", "rest")), answered(totals, ("credit", RETIRED, "rest"))) == (1, 1)
    metrics.series(*KEY).answered(0.1, 0)
    assert answered(read_folder(tmp_path)) == 1


def test_an_endpoint_that_is_gone_leaves_what_it_counted(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    metrics.series(*KEY).answered(0.1, 0)
    metrics.series("credit", "", "rest").failed("NOT_FOUND", 0.1)
    metrics.series("", "", "rest").failed("NOT_FOUND", 0.1)
    for now in (0.0, LINGER_S):
        metrics.keep({("other", "1")}, now)
    totals = read_folder(tmp_path)
    assert totals.series(Scope.GATEWAY) == [("", "", "rest"), ("", RETIRED, "rest")]
    assert totals.numbers(table.REQUESTS, ("", RETIRED, "rest"))["NOT_FOUND"] == 1


def test_series_of_an_earlier_process_are_given_back_too(path: Path, tmp_path: Path):
    first = Metrics(path)
    first.series(*KEY).answered(0.1, 0)
    first.close()
    metrics = Metrics(path)
    for now in (0.0, LINGER_S):
        metrics.keep({("credit", "2")}, now)
    assert read_folder(tmp_path).series(Scope.GATEWAY) == [("credit", RETIRED, "rest")]


def test_a_reader_in_the_middle_of_a_change_reads_again(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    metrics = Metrics(path)
    metrics.series(*KEY).answered(0.1, 0)
    seen = []
    put_together = metrics_file.add

    def add(cells, to, scope):
        put_together(cells, to, scope)
        if not seen:
            with path.open("rb", buffering=0) as file:
                seen.append(metrics_file._read(file)[1])

    monkeypatch.setattr(metrics_file, "add", add)
    for now in (0.0, LINGER_S):
        metrics.keep({("credit", "2")}, now)
    assert seen == [False]
    with path.open("rb", buffering=0) as file:
        assert metrics_file._read(file)[1]


def test_what_was_counted_before_there_was_room_for_a_file_is_in_it_later(path: Path, tmp_path: Path):
    metrics = Metrics()
    series, runtime = metrics.series(*KEY), metrics.runtime(*RUNTIME)
    series.answered(0.1, 0)
    runtime.ran(4, 0.1)
    metrics.process.observe(connections=2, in_flight=0, dropped_lines=3)
    assert not metrics.is_shared
    metrics.share(path)
    series.answered(0.1, 0)
    metrics.process.observe(connections=1, in_flight=0, dropped_lines=3)
    totals = read_folder(tmp_path)
    assert metrics.is_shared
    assert (answered(totals), totals.histogram(table.BATCH_ROWS, RUNTIME).count) == (2, 1)
    assert (totals.number(table.CONNECTIONS), totals.number(table.DROPPED_LINES)) == (1, 3)


def test_what_was_counted_in_a_file_that_was_lost_is_in_the_new_one(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    metrics.series(*KEY).answered(0.1, 0)
    for now in (0.0, LINGER_S):
        metrics.keep({("credit", "2")}, now)
    metrics.series("credit", "2", "rest").answered(0.1, 0)
    path.unlink()
    assert not metrics.is_shared
    metrics.share(path)
    metrics.series("credit", "2", "rest").answered(0.1, 0)
    totals = read_folder(tmp_path)
    assert (answered(totals, ("credit", "2", "rest")), answered(totals, ("credit", RETIRED, "rest"))) == (2, 1)


def test_what_a_process_had_open_that_was_killed_is_open_no_more_whatever_it_was_called(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    metrics.process.note(table.CONNECTIONS, 3, "grpc")
    saved = metrics_file.read_file(path)
    totals = Totals()
    totals.add(metrics_file.SavedFile(1 << 60, saved.series))
    assert read_folder(tmp_path).number(table.CONNECTIONS, (), "grpc") == 3
    assert totals.number(table.CONNECTIONS, (), "grpc") == 0


def test_requests_are_known_also_where_nobody_else_sees_them(path: Path):
    for metrics in (Metrics(), Metrics(path)):
        for protocol in ("rest", "grpc"):
            metrics.series("credit", "1", protocol).answered(0.1, 0)
        metrics.series(*KEY).failed("INTERNAL", 0.1)
        metrics.series("other", "2", "rest").failed("NOT_FOUND", 0.1)
        assert metrics.requests() == {RUNTIME: 3, ("other", "2"): 1}


def test_a_file_takes_little_room_until_it_is_used(path: Path):
    Metrics(path)
    found = path.stat()
    assert stat.S_ISREG(found.st_mode)
    assert found.st_size == size_of(FIRST_SLOTS)
    assert found.st_blocks * 512 < 64 << 10


def test_a_file_that_cannot_be_made_is_an_error_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        Metrics(tmp_path / "missing" / "a.metrics")
    (tmp_path / "b.metrics").mkdir()
    with pytest.raises(IsADirectoryError):
        Metrics(tmp_path / "b.metrics")
    assert [p.name for p in tmp_path.iterdir()] == ["b.metrics"]


def test_a_folder_that_is_not_there_has_counted_nothing(tmp_path: Path):
    totals = read_folder(tmp_path / "missing")
    assert totals.files == 0
    assert totals.series(Scope.GATEWAY) == []
    assert answered(totals) == 0


def test_without_a_file_counting_works_and_nobody_sees_it():
    metrics = Metrics()
    metrics.series(*KEY).answered(0.1, 0)
    metrics.runtime(*RUNTIME).ran(1, 0.1)
    metrics.process.observe(connections=1, in_flight=1, dropped_lines=0)
    metrics.close()


def test_the_lock_ends_with_the_process(path: Path):
    """A replacement can go on at once, however its predecessor ended."""
    program = f"import os\nfrom pathlib import Path\nfrom limen.telemetry.metrics.series import Metrics\nm = Metrics(Path({str(path)!r}))\nos._exit(9)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 9
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_says_how_a_version_did(path: Path, tmp_path: Path):
    metrics = Metrics(path)
    series = metrics.series(*KEY)
    for _ in range(99):
        series.answered(0.001, 0)
    series.answered(1.0, 0)
    series.failed("UNAVAILABLE", 0.1)
    metrics.runtime(*RUNTIME).ran(1, 0.1)
    metrics.runtime(*RUNTIME).ran(7, 0.1)
    totals = read_folder(tmp_path)
    times = totals.histogram(table.REQUEST_SECONDS, KEY)
    assert (times.count, errors(totals.numbers(table.REQUESTS, KEY))) == (100, {"UNAVAILABLE": 1})
    assert times.mean == pytest.approx(0.01099)
    assert times.percentile(0.5) == pytest.approx(0.001, rel=0.13)
    assert times.percentile(0.99) == pytest.approx(0.001, rel=0.13)
    assert totals.histogram(table.BATCH_ROWS, RUNTIME).mean == 4.0


def test_gauges_and_totals_of_a_process_are_noted_by_value(tmp_path: Path):
    metrics = Metrics(tmp_path / "a.metrics")
    process = metrics.process
    process.note(table.HELD_BYTES, 5)
    process.note(table.CONNECTIONS, 3, "grpc")
    process.grow(table.HTTP_ERRORS, 2, "408")
    process.grow(table.HTTP_ERRORS, 7, "408")
    process.grow(table.HTTP_ERRORS, 1, "418")
    totals = read_folder(tmp_path)
    assert totals.number(table.HELD_BYTES) == 5
    assert totals.numbers(table.CONNECTIONS) == {"http": 0, "grpc": 3}
    assert {k: n for k, n in totals.numbers(table.HTTP_ERRORS).items() if n} == {"408": 7, "other": 1}
    metrics.close()
    # The next process of that name goes on counting, with nothing open.
    after = Metrics(tmp_path / "a.metrics")
    after.process.grow(table.HTTP_ERRORS, 1, "408")
    totals = read_folder(tmp_path)
    assert totals.numbers(table.CONNECTIONS) == {"http": 0, "grpc": 0}
    assert totals.numbers(table.HTTP_ERRORS)["408"] == 8
