"""Several workers on the same ports: they share the work, survive each other, and end with their supervisor."""

import os
import signal
import time

import pytest

from tests.services.packages import write_score
from tests.services.process import WAIT_S, Server, serving, wait_gone

SCORE = {"amount": 10, "age": 4}


@pytest.fixture
def server(tmp_path):
    package = write_score(tmp_path / "score")
    with serving(package, "--workers", 2, announcement=tmp_path / "a.json") as server:
        yield server


def workers_seen(server: Server, enough: int, *, but: frozenset[str] = frozenset()) -> set[str]:
    """Ask over new connections until that many different workers, none of them in `but`, have answered."""
    seen: set[str] = set()
    until = time.monotonic() + WAIT_S
    while len(seen) < enough and time.monotonic() < until:
        seen |= {server.worker()} - but
    return seen


def test_both_workers_answer_and_say_so(server):
    assert "is ready, 2 workers" in server.summary
    assert len(workers_seen(server, 2)) == 2
    assert len(server.children("gateway")) == 2
    # One replica answers for both.
    assert len(server.children("replica")) == 1
    assert server.stop() == (0, "")


def test_a_killed_worker_is_missed_by_nobody_and_replaced(server):
    before = workers_seen(server, 2)
    killed, kept = server.children("gateway")
    os.kill(killed, signal.SIGKILL)
    # The supervisor has noticed once it says so; from then on every new connection finds the other worker.
    assert any("ended with status -9; another starts in" in line for line in server.process.stderr)
    assert [server.predict("score", **SCORE) for _ in range(20)] == [{"score": 6.0}] * 20

    replacement = workers_seen(server, 1, but=frozenset(before))
    assert len(replacement) == 1
    assert kept in server.children("gateway")
    assert len(server.children("gateway")) == 2
    assert server.stop()[0] == 0


def test_everything_ends_when_the_supervisor_is_killed(server):
    started = server.children()
    assert server.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    wait_gone(started)


def test_a_second_signal_to_the_supervisor_takes_everything_along(server):
    started = server.children()
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGTERM)
    status, err = server.ended()
    # Signals that come close together may be seen as one, which then is a clean end.
    assert status in (0, 128 + signal.SIGTERM)
    assert err == ""
    wait_gone(started)
