"""The pure parts of the benchmarks: reading what other programs say, and turning it into figures."""

import sys
from functools import partial

import msgspec
import pytest
from benchmarks import many
from benchmarks.compare import Figures, Row, Sample, summarise
from benchmarks.generators import GeneratorError, Shot, parse_h2load, parse_wrk
from benchmarks.loads import Load, framed
from benchmarks.processes import machine_ticks, read_stat
from benchmarks.profile import count
from benchmarks.report import closing, lines
from benchmarks.steady import Answer
from benchmarks.swap import quantile, split

WRK = """\
Running 1s test @ http://127.0.0.1:1/v2/models/fraud/infer
  23120 requests in 1.00s, 5.20MB read

RESULT {"requests":1000,"seconds":1.002396,"bad_statuses":3,"broken":2,"p50_ms":0.687,"p99_ms":1.751}
"""

H2LOAD = """\
finished in 1.00s, 100.00 req/s, 394.88KB/s
requests: 104 total, 104 started, 103 done, 100 succeeded, 3 failed, 1 errored, 0 timeout
status codes: 100 2xx, 0 3xx, 3 4xx, 0 5xx
traffic: 394.88KB (404352) total, 11.01KB (11272) headers (space savings 94.71%), 4.10KB ({data}) data
"""
H2LOAD_LOG = "".join(f"1795461097243943\t200\t{us}\n" for us in range(1000, 101_000, 1000)) + "1\t404\t5\n"


def test_a_row_of_many_endpoints_compares_with_the_smallest_server():
    one = many.Figures(1, 1.0, 1.0, 180.0, 1.0, 0.4, 0.3, 2.0, 4.0, 23, 30)
    ten = one._replace(endpoints=10, memory_mb=540.0, p50_ms=3.0, p99_ms=8.0, gateway_files=40)
    assert many.row(one, one).split() == [
        "1",
        "1.0",
        "1.0",
        "180",
        "–",
        "1.00",
        "0.4",
        "0.3",
        "2.00",
        "1.00",
        "4.00",
        "1.00",
        "23",
        "30",
    ]
    assert many.row(ten, one).split() == [
        "10",
        "1.0",
        "1.0",
        "540",
        "40.0",
        "1.00",
        "0.4",
        "0.3",
        "3.00",
        "1.50",
        "8.00",
        "2.00",
        "23",
        "40",
    ]


def test_what_wrk_reports_becomes_good_answers_and_errors():
    assert parse_wrk(WRK) == Shot(requests=997, seconds=1.002396, errors=5, p50_ms=0.687, p99_ms=1.751)


def test_wrk_without_a_report_is_a_failure_and_not_a_zero():
    with pytest.raises(GeneratorError, match="wrk gave no report"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_what_h2load_reports_becomes_good_answers_and_errors():
    shot = parse_h2load(H2LOAD.format(data=4200), H2LOAD_LOG, 1.0, answer_bytes=42)

    assert (shot.requests, shot.seconds, shot.errors) == (100, 1.0, 4)
    assert (shot.p50_ms, shot.p99_ms) == (pytest.approx(50.5), pytest.approx(99.01))


def test_grpc_calls_that_fail_with_http_status_200_are_found_by_their_missing_bytes():
    shot = parse_h2load(H2LOAD.format(data=90 * 42), H2LOAD_LOG, 1.0, answer_bytes=42)

    assert (shot.requests, shot.errors) == (90, 14)


def test_h2load_without_an_answer_is_a_failure_and_not_a_zero():
    with pytest.raises(GeneratorError, match="h2load gave no report"):
        parse_h2load(H2LOAD.format(data=0), "", 1.0, answer_bytes=42)


def test_cpu_ticks_are_found_behind_a_process_name_with_brackets_and_spaces():
    # pid (comm) state ppid ... utime stime cutime cstime
    assert read_stat("7 (a) b (c) S 3 7 7 0 -1 0 0 0 0 0 10 20 5 1 20 0 4") == (3, 36)


def test_idle_and_waiting_are_not_work_and_stolen_time_is():
    # cpu user nice system idle iowait irq softirq steal guest guest_nice
    assert machine_ticks("cpu  100 10 20 5000 300 1 2 4 50 5\ncpu0 1 1 1 1\n") == 137


def sample(rps: float, cpu_us: float) -> Sample:
    return Sample(Shot(requests=int(rps * 2), seconds=2.0, errors=0, p50_ms=1.0, p99_ms=2.0), cpu_us)


def test_ratios_are_taken_within_a_round_so_that_a_slow_round_does_not_count():
    found = summarise(
        {
            "bare": [sample(1000, 10), sample(500, 20), sample(1000, 10)],
            "limen": [sample(800, 12), sample(400, 24), sample(500, 30)],
        }
    )

    assert (found["bare"].rps_ratio, found["bare"].cpu_ratio) == (1.0, 1.0)
    assert (found["limen"].rps_ratio, found["limen"].cpu_ratio) == (0.8, pytest.approx(1.2))
    assert (found["limen"].rps, found["limen"].cpu_us) == (500, 24)


def figures(rps_ratio: float, cpu_ratio: float) -> Figures:
    return Figures(12345.6, 40.0, 0.5, 1.5, rps_ratio, cpu_ratio, [], [])


ROW = Row("json", 1, 16, {"bare": figures(1, 1), "limen": figures(0.7, 1.41)})


def test_a_row_marks_each_aim_on_its_own():
    bare, limen = lines(ROW).splitlines()

    assert bare.split() == ["json", "1", "16", "bare", "12,346", "40.0", "0.50", "1.50"]
    assert limen.split() == ["limen", "12,346", "0.70", "✓", "40.0", "1.41", "✗", "0.50", "1.50"]


def test_a_row_says_when_other_work_took_part_of_the_machine():
    disturbed = lines(msgspec.structs.replace(ROW, others=0.234))

    assert disturbed == lines(ROW).replace("1.50\n", "1.50  others 23%\n")


def test_a_row_with_an_error_has_no_figures():
    row = Row("grpc", 256, 64, invalid="limen: 3 errors in 10 answers")

    assert lines(row) == "grpc 256        64  invalid: limen: 3 errors in 10 answers"
    assert closing([row]) == "1 rows are invalid"


def test_the_closing_counts_the_rows_that_meet_each_aim():
    assert closing(
        [ROW, msgspec.structs.replace(ROW, servers={"bare": figures(1, 1), "limen": figures(0.9, 1.1)})]
    ) == ("limen: requests/s met on 2 of 2 rows (lowest 0.70), CPU on 1 (highest 1.41)")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"outputs":[{"data":[0.25,0.5]}]}', None),
        (b'{"outputs":[{"data":[0.25,0.5,0.5]}]}', "3 numbers instead of 2"),
        (b'{"outputs":[{"data":[0.25,0.6]}]}', "other numbers than the model gives"),
    ],
)
def test_an_answer_is_right_only_with_the_numbers_of_the_model(body, problem):
    assert Load("json", 2, b"", {}, [0.25, 0.5]).problem({}, body) == problem


def test_a_message_is_framed_as_not_compressed_with_its_length():
    assert framed(b"abc") == b"\0\0\0\0\3abc"


def twice(number):
    return number + number


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="Python 3.12 does not trace every instruction")
def test_the_same_work_is_counted_as_the_same_number_of_instructions():
    work = partial(twice, 2)
    once = count(work)

    assert count(work) == once
    assert once.calls[twice.__code__] == 1
    assert once.total == once.instructions[twice.__code__] > 2


def test_counting_gives_the_tracer_back_even_when_the_work_fails():
    before = sys.gettrace()

    with pytest.raises(ZeroDivisionError):
        count(lambda: 1 // 0)

    assert sys.gettrace() is before


def test_answers_are_told_apart_by_whether_a_reload_was_under_way_when_they_were_asked_for():
    answers = [Answer(at, ms) for at, ms in ((0.5, 1.0), (1.0, 9.0), (1.9, 8.0), (2.0, 2.0), (3.5, 7.0), (9.0, 3.0))]

    assert split(answers, [(1.0, 2.0), (3.0, 4.0)]) == ([9.0, 8.0, 7.0], [1.0, 2.0, 3.0])
    assert [quantile([3.0, 1.0, 2.0, 4.0], q) for q in (0.0, 0.5, 0.99)] == [1.0, 3.0, 4.0]
