"""Callers that wait: a gateway without a file to spare lets nobody in, resets nobody, and goes on as soon as it can."""

import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from limen.gateway.engine.config import HttpLimits
from limen.gateway.engine.phase import Phase
from tests.conformance.bad_inputs.entries import PREDICT
from tests.conformance.http.test_connections import GATED, GOOD, HEAD, is_good
from tests.conformance.serving.gates import OPEN, WAITING
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.models import pair, patient
from tests.conformance.serving.wire import JSON, request

ROOM = 6
CALLERS = 2 * ROOM
LAST = request("POST", PREDICT.path, PREDICT.good, {**JSON, "connection": "close"})


@pytest.fixture(params=["connections", "files"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gateway]:
    """Return a gateway with room for a few callers, because so many may be connected or so many files may be open."""
    gateway = Gateway([pair(tmp_path / "pair"), patient(tmp_path / "patient")])
    if request.param == "connections":
        gateway.server.follow(msgspec.structs.replace(gateway.server.state.limits, max_connections=ROOM))
    else:
        free = os.dup(0)
        os.close(free)
        # The callers' own ends are in this process, too.
        gateway.server._mark.most = free + CALLERS + ROOM
    yield gateway
    OPEN.set()
    gateway.stop()


def test_more_callers_than_there_is_room_for_are_all_answered(small: Gateway):
    seen: Counter[str] = Counter()

    def call() -> None:
        for _ in range(4):
            try:
                with small.wire() as wire:
                    seen["right" if is_good(wire.send(GOOD).answer()) else "wrong"] += 1
            except OSError as exc:
                seen[type(exc).__name__] += 1

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert seen == {"right": 4 * CALLERS}
    small.wait_until(lambda: not small.server.state.is_crowded)


def test_connections_on_which_nothing_is_asked_make_way(small: Gateway):
    idle = [small.wire() for _ in range(CALLERS)]
    assert is_good(small_answer(small))
    for wire in idle:
        wire.close()
    assert small.server.ended["crowded"] > 0
    assert small.server.pauses > 0


def test_requests_that_never_come_whole_make_way(small: Gateway):
    slow = [small.wire().send(data) for data in (HEAD[:30], GOOD[:-1]) * (CALLERS // 2)]
    assert is_good(small_answer(small))
    for wire in slow:
        wire.close()
    assert small.server.ended["slow"] > 0


def test_connections_that_are_used_all_the_time_end_with_an_answer_so_that_others_are_let_in(small: Gateway):
    stop = threading.Event()
    failures: list[Exception] = []

    def ask_always() -> None:
        wire = small.wire()
        try:
            while not stop.is_set():
                answer = wire.send(GOOD).answer()
                assert is_good(answer)
                if answer.headers.get("connection") == "close":
                    assert wire.rest() == b""
                    wire.close()
                    wire = small.wire()
        except Exception as exc:  # noqa: BLE001  told at the end
            failures.append(exc)
        finally:
            wire.close()

    callers = [threading.Thread(target=ask_always) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for _ in range(10):
        assert is_good(small_answer(small))
    stop.set()
    for caller in callers:
        caller.join(60)
    assert failures == []


def test_requests_in_hand_are_finished_while_others_wait(small: Gateway):
    OPEN.clear()
    busy = [small.wire().send(GATED) for _ in range(CALLERS)]
    assert WAITING.acquire(timeout=30)
    small.wait_until(lambda: small.server.state.is_crowded)
    OPEN.set()
    for wire in busy:
        assert wire.answer().json()["predictions"] == [{"y": -1}]
        wire.close()


def small_answer(gateway: Gateway):
    """Return the answer to a caller who may have to wait to be let in."""
    with socket.create_connection(("127.0.0.1", gateway.port), 30), gateway.wire() as wire:
        return wire.send(LAST).answer()


# -- callers who say that they send nothing more ---------------------------------------------------------------------------


def test_a_caller_who_has_said_everything_gets_its_answer(gateway: Gateway):
    for data in (GOOD, GOOD * 3, LAST):
        with gateway.wire() as wire:
            wire.send(data).end()
            for _ in range(data.count(b"POST")):
                assert is_good(wire.answer())
            assert wire.rest() == b""


def test_a_caller_who_has_said_everything_gets_its_answer_however_long_it_takes(gateway: Gateway):
    OPEN.clear()
    with gateway.wire() as wire:
        wire.send(GATED).end()
        assert WAITING.acquire(timeout=60)
        # The word in between may be ignored, as HTTP/1.1 says.
        assert wire.answer(has_body=False).status == 100
        OPEN.set()
        answer = wire.answer()
        assert answer.json()["predictions"] == [{"y": -1}]
        assert wire.rest() == b""


def test_an_old_caller_who_has_said_everything_gets_its_answer_and_no_word_in_between(gateway: Gateway):
    OPEN.clear()
    with gateway.wire() as wire:
        wire.send(GATED.replace(b"HTTP/1.1", b"HTTP/1.0")).end()
        assert WAITING.acquire(timeout=60)
        assert not wire.has_answer(0.8)
        OPEN.set()
        assert wire.answer().json()["predictions"] == [{"y": -1}]


def test_other_limits_count_at_once_and_on_connections_that_are_open(tmp_path: Path):
    gateway = Gateway([pair(tmp_path / "pair")])
    try:
        with gateway.wire() as wire:
            assert is_good(wire.send(GOOD).answer())
            limits = msgspec.structs.replace(gateway.server.state.limits, max_body_bytes=4, max_bytes_in_flight=9)
            gateway.do(lambda: gateway.server.follow(limits))
            assert (gateway.server.state.held.most, gateway.server.state.limits.max_body_bytes) == (9, 4)
            assert wire.send(GOOD).answer().status == 413
    finally:
        gateway.stop()


# -- bytes that are held ---------------------------------------------------------------------------------------------------

MIB = 1 << 20


@pytest.fixture
def tight(tmp_path: Path) -> Iterator[Gateway]:
    """Return a gateway that holds four mebibytes for its callers."""
    limits = HttpLimits(max_body_bytes=3 * MIB, max_bytes_in_flight=4 * MIB, body_timeout_s=2.0)
    gateway = Gateway([pair(tmp_path / "pair")], limits=limits)
    yield gateway
    gateway.stop()


def part(size: int, sent: int) -> bytes:
    head = {**JSON, "content-length": str(size)}
    return request("POST", PREDICT.path, b"x" * sent, head)


def test_f21_bodies_that_do_not_fit_are_refused_before_they_come(tight: Gateway):
    with tight.wire() as first, tight.wire() as second:
        first.send(part(3 * MIB, 2 * MIB))
        tight.wait_until(lambda: tight.server.state.held.now == 2 * MIB)
        answer = second.send(part(3 * MIB, 0)).answer()
        assert (answer.status, answer.json()["code"]) == (503, "OVERLOADED")
        assert answer.headers["retry-after"]
        # What is small always fits.
        with tight.wire() as small:
            assert is_good(small.send(GOOD).answer())
    tight.wait_until(lambda: tight.server.state.held.now == 0)


def test_f21_bodies_that_come_together_and_do_not_fit_are_refused_while_they_come(tight: Gateway):
    wires = [tight.wire().send(part(3 * MIB, 0)) for _ in range(3)]
    tight.wait_until(lambda: sum(c.phase is Phase.BODY for c in tight.server.connections) == 3)
    for wire in wires:
        wire.send(b"x" * MIB)
    tight.wait_until(lambda: tight.server.state.held.now == 3 * MIB)
    assert wires[0].send_what_is_taken(b"x" * (MIB + (MIB >> 1))) in (True, False)
    assert wires[0].answer().status == 503
    for wire in wires:
        wire.close()
    tight.wait_until(lambda: tight.server.state.held.now == 0)
    assert tight.server.state.held.refused >= 1


def test_f21_a_body_in_chunks_counts_as_well(tight: Gateway):
    head = request("POST", PREDICT.path, b"", {**JSON, "transfer-encoding": "chunked"})
    with tight.wire() as wire:
        wire.send(head, b"%x\r\n" % MIB, b"x" * MIB)
        tight.wait_until(lambda: tight.server.state.held.now == MIB)
    tight.wait_until(lambda: tight.server.state.held.now == 0)


def test_f21_a_body_has_a_time_to_come_whole_however_much_of_it_is_there(tight: Gateway):
    with tight.wire() as wire:
        wire.send(part(3 * MIB, 2 * MIB))
        for _ in range(200):
            if wire.has_answer(0.1) or not wire.send_what_is_taken(b"x"):
                break
        answer = wire.answer()
        assert (answer.status, answer.json()["code"]) == (408, "TIMEOUT")
    tight.wait_until(lambda: tight.server.state.held.now == 0)


def test_f21_bodies_are_held_until_they_are_answered(tight: Gateway):
    body = b" " * MIB + PREDICT.good
    with tight.wire() as wire:
        for _ in range(3):
            assert is_good(wire.send(request("POST", PREDICT.path, body, JSON)).answer())
        assert tight.server.state.held.now == 0
        assert tight.server.state.held.take_peak() >= MIB
