"""Connections: keep-alive, pipelining, pieces, HTTP/1.0, offers to switch protocols, known heads and stopping."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.bad_inputs.entries import PREDICT, predict
from tests.conformance.serving.expectations import assert_right, refused
from tests.conformance.serving.gates import OPEN, WAITING
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.models import pair, patient
from tests.conformance.serving.wire import JSON, Answer, request

GOOD = request("POST", PREDICT.path, PREDICT.good, JSON)
GATED = request("POST", "/v1/models/patient:predict", b'{"instances": [{"x": -1}]}', JSON)
LIVE = request("GET", "/v2/health/live")
HEAD = GOOD[: -len(PREDICT.good)]


@pytest.fixture(autouse=True)
def still_right(gateway: Gateway) -> Iterator[None]:
    yield
    OPEN.set()
    assert_right(gateway)


def is_good(answer: Answer) -> bool:
    return answer.status == 200 and answer.json()["predictions"] == [{"sum": [1.75, 0], "difference": [1.25, 4]}]


def test_a_connection_is_used_again(gateway: Gateway):
    with gateway.wire() as wire:
        for _ in range(20):
            assert is_good(wire.send(GOOD).answer())
            assert wire.send(LIVE).answer().json() == {"live": True}
            refused(wire.send(request("GET", "/nowhere")).answer(), 404)


@pytest.mark.parametrize("size", [1, 2, 3, 17, len(HEAD) - 1, len(HEAD), len(HEAD) + 1, len(GOOD) - 1, len(GOOD) + 1])
def test_a_request_may_come_in_any_pieces(gateway: Gateway, size: int):
    """Twice each: the second time the head is known."""
    data = GOOD * 4 + LIVE + GOOD * 2
    with gateway.wire() as wire:
        for _ in range(2):
            wire.send(*(data[i : i + size] for i in range(0, len(data), size)))
            for live in (False,) * 4 + (True,) + (False,) * 2:
                answer = wire.answer()
                assert answer.json() == {"live": True} if live else is_good(answer)


def test_pipelined_requests_are_answered_in_order(gateway: Gateway):
    rows = [b'{"instances": [{"a": [%d, 0], "b": [0, 0]}]}' % i for i in range(500)]
    with gateway.wire() as wire:
        wire.send(b"".join(request("POST", PREDICT.path, row, JSON) for row in rows))
        for i in range(500):
            answer = wire.answer()
            assert answer.status == 200, answer
            assert answer.json()["predictions"][0]["sum"][0] == i


def test_requests_behind_a_slow_one_wait_for_it(gateway: Gateway):
    OPEN.clear()
    with gateway.wire() as wire:
        wire.send(GATED + LIVE + GOOD + request("GET", "/nowhere") + b"NOT HTTP\r\n\r\n")
        assert WAITING.acquire(timeout=60)
        assert_right(gateway)
        assert not wire.has_answer(0)
        OPEN.set()
        assert wire.answer().json()["predictions"] == [{"y": -1}]
        assert wire.answer().json() == {"live": True}
        assert is_good(wire.answer())
        refused(wire.answer(), 404)
        refused(wire.answer(), 400, "BAD_REQUEST")
        assert wire.rest() == b""


@pytest.mark.parametrize("first", [GOOD, GATED], ids=["at once", "later"])
def test_nothing_is_answered_after_the_last_answer(gateway: Gateway, first: bytes):
    last = first.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
    for more in (LIVE, GOOD, b"NOT HTTP\r\n\r\n", b"\r\n\r\n", b"GET"):
        OPEN.clear()
        with gateway.wire() as wire:
            wire.send(last + more)
            OPEN.set()
            answer = wire.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert wire.rest() == b""
    while WAITING.acquire(blocking=False):
        pass


def test_http_1_0_ends_with_its_answer_unless_asked_otherwise(gateway: Gateway):
    old = LIVE.replace(b"HTTP/1.1", b"HTTP/1.0")
    with gateway.wire() as wire:
        assert wire.send(old).answer().headers["connection"] == "close"
        assert wire.rest() == b""
    kept = old.replace(b"\r\n\r\n", b"\r\nconnection: keep-alive\r\n\r\n")
    with gateway.wire() as wire:
        for _ in range(2):
            assert wire.send(kept).answer().json() == {"live": True}


def test_empty_lines_between_requests_are_skipped(gateway: Gateway):
    with gateway.wire() as wire:
        for data in (b"\r\n" + GOOD, b"\r\n\r\n" + GOOD, GOOD + b"\r\n", GOOD, b"\r", b"\n" + GOOD):
            wire.send(data)
            if data != b"\r":
                assert is_good(wire.answer())


OFFERS = ["h2c", "websocket", "TLS/1.3"]


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_to_switch_protocols_is_declined_by_answering(gateway: Gateway, offer: str):
    """Java's HTTP client makes one with its first request, body and all."""
    lines = f"connection: Upgrade, HTTP2-Settings\r\nupgrade: {offer}\r\nhttp2-settings: AAMAAABk\r\n\r\n".encode()
    post, get = (data.replace(b"\r\n\r\n", b"\r\n" + lines, 1) for data in (GOOD, LIVE))
    for data in (post + LIVE + get + GOOD, post + LIVE + get + GOOD):
        for size in (1, 50, len(post) - 5, 1 << 20):
            with gateway.wire() as wire:
                wire.send(*(data[i : i + size] for i in range(0, len(data), size)))
                assert is_good(wire.answer())
                assert wire.answer().json() == {"live": True}
                assert wire.answer().json() == {"live": True}
                assert is_good(wire.answer())
                assert is_good(wire.send(post).answer())


def test_an_offer_does_not_hide_a_request_in_a_body(gateway: Gateway):
    """The body of such a request looks like a request; it is not one."""
    body = request("GET", "/v2/models")
    lines = {"connection": "upgrade", "upgrade": "h2c", **JSON}
    with gateway.wire() as wire:
        refused(wire.send(request("POST", PREDICT.path, body, lines) + LIVE).answer(), 400, "BAD_JSON")
        assert wire.answer().json() == {"live": True}
        chunked = request("POST", PREDICT.path, b"0\r\n\r\n", {**lines, "transfer-encoding": "chunked"})
        refused(wire.send(chunked).answer(), 400, "BAD_REQUEST")
        assert wire.rest() == b""


def test_a_known_head_is_taken_only_with_exactly_its_body(gateway: Gateway):
    body = PREDICT.good
    with gateway.wire() as wire:
        for _ in range(3):
            assert is_good(wire.send(GOOD).answer())
        refused(wire.send(HEAD + b"x" * len(body)).answer(), 400, "BAD_JSON")
        wire.send(HEAD + body[:-1])
        assert not wire.has_answer(0.05)
        assert is_good(wire.send(body[-1:] + HEAD).answer())
        assert is_good(wire.send(body + GOOD[:10]).answer())
        assert is_good(wire.send(GOOD[10:]).answer())
        wire.send(GOOD + b"GARBAGE\r\n\r\n")
        assert is_good(wire.answer())
        refused(wire.answer(), 400, "BAD_REQUEST")


def test_a_known_head_inside_another_requests_body_is_a_body(gateway: Gateway):
    outer = request("POST", PREDICT.path, GOOD, JSON)
    with gateway.wire() as wire:
        assert is_good(wire.send(GOOD).answer())
        wire.send(outer[: -len(GOOD)])
        assert not wire.has_answer(0.05)
        refused(wire.send(GOOD).answer(), 400, "BAD_JSON")
        assert is_good(wire.send(GOOD).answer())


def test_known_heads_are_forgotten_when_there_are_too_many(gateway: Gateway):
    with gateway.wire() as wire:
        for i in range(2100):
            data = request("POST", PREDICT.path, PREDICT.good, {**JSON, "x-n": str(i)})
            assert wire.send(data).answer().status == 200
        assert len(gateway.server.state.known_heads._known) <= 1024
        assert is_good(wire.send(GOOD).answer())


def test_a_caller_who_leaves_is_not_waited_for(gateway: Gateway):
    OPEN.clear()
    with gateway.wire() as wire:
        wire.send(GATED)
        assert WAITING.acquire(timeout=60)
    gateway.wait_until(lambda: not any(c.is_busy for c in gateway.server.connections))
    OPEN.set()
    assert [line["status"] for line in gateway.log() if line.get("code") == "CANCELLED"][-1:] == [499]


@pytest.mark.parametrize("behind", [31, 32, 200])
def test_a_caller_who_leaves_with_many_requests_in_line_is_not_waited_for(gateway: Gateway, behind: int):
    """Beyond `max_pipelined` nothing is read, so the end is not read either."""
    OPEN.clear()
    with gateway.wire() as wire:
        wire.send(GATED + GOOD * behind)
        assert WAITING.acquire(timeout=60)
    gateway.wait_until(lambda: not any(c.is_busy for c in gateway.server.connections))
    OPEN.set()


def test_half_a_request_and_the_end_is_no_request(gateway: Gateway):
    for cut in (5, len(HEAD) - 2, len(HEAD), len(GOOD) - 1):
        with gateway.wire() as wire:
            assert wire.send(GOOD[:cut]).end().rest() == b""


@pytest.fixture
def stopping(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway([pair(tmp_path / "pair"), patient(tmp_path / "patient")])
    yield gateway
    OPEN.set()
    gateway.stop()


def test_a_stopping_server_answers_what_has_begun(stopping: Gateway):
    """A request in hand, one behind it, half a head and half a body; whoever is silent is let go."""
    OPEN.clear()
    busy, head, body, idle = (stopping.wire() for _ in range(4))
    busy.send(GATED)
    assert WAITING.acquire(timeout=60)
    head.send(GOOD[:20])
    body.send(GOOD[:-1])
    assert is_good(idle.send(GOOD).answer())
    stopping.wait_until(lambda: sum(c.is_busy for c in stopping.server.connections) == 3)
    stopper = threading.Thread(target=stopping.stop)
    stopper.start()
    stopping.wait_until(lambda: stopping.server.state.is_draining)
    assert idle.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        stopping.wire()
    head.send(GOOD[20:] + GOOD)
    body.send(GOOD[-1:] + GOOD)
    for wire in (head, body):
        answer = wire.answer()
        assert is_good(answer)
        assert answer.headers["connection"] == "close"
        assert wire.rest() == b""
    OPEN.set()
    answer = busy.answer()
    assert (answer.json()["predictions"], answer.headers["connection"]) == ([{"y": -1}], "close")
    assert busy.rest() == b""
    stopper.join(60)
    assert not stopper.is_alive()
    for wire in (busy, head, body, idle):
        wire.close()


def test_many_callers_at_once_get_their_own_answers(gateway: Gateway):
    wrong: list[Answer] = []

    def call(n: int) -> None:
        for i in range(20):
            answer = predict(gateway, "pair", {"a": [n, i], "b": [0, 0]})
            if answer.status != 200 or answer.json()["predictions"][0]["sum"] != [n, i]:
                wrong.append(answer)

    callers = [threading.Thread(target=call, args=(n,)) for n in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert wrong == []
