"""What `limen status` prints."""

from datetime import UTC, datetime

from limen.cli.commands.status import _server, _time
from limen.contracts.conditions import Condition, ConditionReason, ConditionStatus, ConditionType
from limen.serving.messages.lines import ModelView, ProcessView, Status, TrafficView, VersionView

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
READY = Condition(ConditionType.READY, ConditionStatus.TRUE, ConditionReason.ANSWERS, "version 1 answers", SINCE)
DEGRADED = Condition(
    ConditionType.DEGRADED, ConditionStatus.TRUE, ConditionReason.VERSION_FAILED, "no model.yaml", SINCE
)
SETTLED = Condition(ConditionType.PROGRESSING, ConditionStatus.FALSE, ConditionReason.SETTLED, "", SINCE)


def process(name: str, kind: str, pid: int, **changes) -> ProcessView:
    facts = {"phase": "running", "rss_bytes": 50 << 20, "restarts": 0, "uptime_s": 75.0, **changes}
    return ProcessView(name, kind, pid, **facts)


def test_the_tree_the_models_and_every_reason_are_shown_in_columns():
    versions = (
        VersionView("1", "READY", "", "d", "./score", 2, 3, 1, 2, 0.25),
        VersionView("2", "FAILED", "a wrong answer", "d", "./score", 0, 0, 0, 0, 0.0),
    )
    status = Status(
        1,
        3700.0,
        "127.0.0.1:80",
        "127.0.0.1:81",
        "127.0.0.1:82",
        7,
        False,
        (
            process("supervisor", "supervisor", 1),
            process("control", "control", 22, restarts=2),
            process("score-v1-1", "replica", 333, phase="paused", rss_bytes=0, uptime_s=0, note="ended with status -9"),
        ),
        (
            ModelView("score", versions, "no model.yaml", TrafficView(1200, 1, 1.25, 2.5, 9.0), (READY, DEGRADED)),
            ModelView("quiet", ()),
        ),
        (READY, SETTLED),
    )
    assert (
        "\n".join(_server(status))
        == """
  Limen server 1, not ready, up 1 h 1 min
  REST http://127.0.0.1:80  gRPC 127.0.0.1:81  metrics http://127.0.0.1:82/metrics
  Ready        True     since 2026-01-02 03:04:05 UTC  Answers: version 1 answers

  supervisor        1  running  50.0 MiB  up 1 min
   ├─ control      22  running  50.0 MiB  up 1 min  restarted 2×
   └─ score-v1-1  333  paused          –            ended with status -9

  score  1200 requests, 1 error, p50 1.2 ms, p95 2.5 ms, p99 9.0 ms
    version 1  READY     2 replicas, 1 in flight, 2 waiting, 3 leases, 250 ms to wait, from ./score
    version 2  FAILED    from ./score
      a wrong answer
    Ready        True     since 2026-01-02 03:04:05 UTC  Answers: version 1 answers
    Degraded     True     since 2026-01-02 03:04:05 UTC  VersionFailed: no model.yaml

  quiet
"""
    )


def test_times_are_for_people():
    shown = [_time(s) for s in (0.4, 59.9, 60, 3599, 3600, 86399, 90000)]
    assert shown == ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "23 h 59 min", "1 d 1 h"]
