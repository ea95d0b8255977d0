"""B13–B15, B17 and B18: bodies that cost more than they carry, and callers who take their time."""

import contextlib
import ctypes
import gc
import gzip
import json
import os
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from limen.gateway.engine.config import HttpLimits
from limen.gateway.engine.phase import Phase
from tests.conformance.bad_inputs.entries import JSON_INFER, PREDICT, infer_json, tensor
from tests.conformance.serving.expectations import assert_right, refused
from tests.conformance.serving.gates import OPEN, WAITING
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.models import echo, pair, patient
from tests.conformance.serving.wire import JSON, Wire, request

LIMIT = 1 << 20
SMALL = HttpLimits(
    max_body_bytes=LIMIT, max_chunks=1000, header_timeout_s=0.5, body_idle_timeout_s=0.5, write_idle_timeout_s=0.5, keep_alive_s=2.5,
    min_body_bytes_per_s=1 << 20,
)  # fmt: skip
MIB = 1 << 20


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with limits that a test can reach."""
    folder = tmp_path_factory.mktemp("small")
    names = [pair(folder / "pair"), patient(folder / "patient"), echo(folder / "echo-float64", "float64")]
    gateway = Gateway(names, SMALL)
    yield gateway
    gateway.stop()


@pytest.fixture(autouse=True)
def small_still_right(small: Gateway) -> Iterator[None]:
    yield
    assert_right(small)


def resident() -> int:
    """Return the bytes this process has in memory and in use."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bomb(encoding: str, inflated: int) -> bytes:
    """Return zeros, as many as asked for, in an encoding. A block that begins afresh can be repeated without compressing it again."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" if encoding == "gzip" else b"\x78\xda"
    return head + block * (inflated // MIB) + stream.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_b13_a_bomb_stops_at_the_limit(small: Gateway, encoding: str):
    """Nine hundred times the limit; what is held meanwhile is the limit and a piece."""
    body = bomb(encoding, 900 * MIB)
    assert len(body) < LIMIT
    headers = {**JSON, "content-encoding": encoding}
    refused(small.call("POST", PREDICT.path, body, headers), 413, "BODY_TOO_LARGE")
    tracemalloc.start()
    try:
        refused(small.call("POST", PREDICT.path, body, headers), 413, "BODY_TOO_LARGE")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(body) + 2 * LIMIT + MIB


def test_b13_bombs_leave_nothing_behind(gateway: Gateway):
    """At the limits of a real server: 64 MiB, and a body that would become a gigabyte."""
    body = bomb("gzip", 1 << 30)
    headers = {**JSON, "content-encoding": "gzip"}
    held = []
    for _ in range(24):
        refused(gateway.call("POST", PREDICT.path, body, headers), 413, "BODY_TOO_LARGE")
        held.append(resident())
    # What is kept can only grow; what the allocator holds back comes and goes.
    assert min(held[14:]) - min(held[4:14]) < 5 * MIB


def test_b13_a_body_of_exactly_the_limit_is_inflated(small: Gateway):
    for size, status in ((LIMIT, 400), (LIMIT + 1, 413)):
        headers = {**JSON, "content-encoding": "gzip"}
        refused(small.call("POST", PREDICT.path, gzip.compress(bytes(size)), headers), status)


@pytest.mark.parametrize(
    "encoding", ["gzip, gzip, gzip", "gzip,deflate", "br", "zstd", "compress", "x-unknown", "gzip;q=1", "aes128gcm"]
)
@pytest.mark.parametrize("entry", [JSON_INFER, PREDICT], ids=repr)
def test_b13_b14_an_encoding_that_is_not_offered_is_refused(gateway: Gateway, entry, encoding: str):
    answer = gateway.call("POST", entry.path, entry.good, {**JSON, "content-encoding": encoding})
    refused(answer, 415, "UNSUPPORTED_ENCODING")
    assert answer.headers["accept-encoding"] == "gzip, deflate"


def test_b14_two_encoding_headers_are_a_chain(gateway: Gateway):
    body = gzip.compress(gzip.compress(PREDICT.good))
    head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n" % (PREDICT.path.encode(), len(body))
    with gateway.wire() as wire:
        refused(
            wire.send(head + b"content-encoding: gzip\r\n" * 2 + b"\r\n" + body).answer(), 415, "UNSUPPORTED_ENCODING"
        )


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "x-gzip", "identity"])
def test_a_body_in_an_encoding_is_read(gateway: Gateway, encoding: str):
    bodies = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}
    for entry in (JSON_INFER, PREDICT):
        headers = {**JSON, "content-encoding": encoding}
        assert gateway.call("POST", entry.path, bodies[encoding](entry.good), headers).status == 200
    raw = zlib.compressobj(wbits=-15)
    body = raw.compress(PREDICT.good) + raw.flush()
    assert gateway.call("POST", PREDICT.path, body, {**JSON, "content-encoding": "deflate"}).status == 200


def test_a_body_that_is_not_in_its_encoding_is_refused(gateway: Gateway):
    """Cut off at every byte, with a byte flipped, with something behind it, or not encoded at all."""
    whole = gzip.compress(PREDICT.good)
    headers = {**JSON, "content-encoding": "gzip"}
    with gateway.wire() as wire:
        for body in [*(whole[:i] for i in range(len(whole))), whole + b"x", whole + whole, PREDICT.good, b"\0" * 20]:
            refused(wire.send(request("POST", PREDICT.path, body, headers)).answer(), 400)
        for i in range(len(whole)):
            flipped = bytearray(whole)
            flipped[i] ^= 0xFF
            assert wire.send(request("POST", PREDICT.path, bytes(flipped), headers)).answer().status in (200, 400, 413)


def test_bodies_are_let_go_with_their_answers(gateway: Gateway):
    """Without the help of the garbage collector, which looks for large things as rarely as for small ones.

    What is kept can only grow; what the allocator holds back comes and goes, so minima are compared. The first rounds set up.
    """
    body = b" " * (8 * MIB)
    cut = request("POST", PREDICT.path, body, JSON)[:-1]
    held: list[int] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(16):
            for entry in (JSON_INFER, PREDICT):
                refused(gateway.call("POST", entry.path, body, JSON), 400, "BAD_JSON")
            with gateway.wire() as wire:
                wire.send(cut)
            gateway.wait_until(lambda: not any(c.phase is Phase.BODY for c in gateway.server.connections))
            held.append(resident())
        assert min(held[9:]) - min(held[3:9]) < 5 * MIB
    finally:
        gc.enable()


PARTS = {
    "lists in a record": b'{"instances": [{"a": [%s[]]}]}' % (b"[]," * (1 << 21)),
    "records": b'{"instances": [%s{}]}' % (b"{}," * (1 << 21)),
    "lists in a tensor": b'{"inputs": [{"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [%s[]]}]}'
    % (b"[]," * (1 << 21)),
    "an unknown member": b'{"x": [%s[]]}' % (b"[]," * (1 << 21)),
}


@pytest.mark.parametrize("text", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("entry", [JSON_INFER, PREDICT], ids=repr)
def test_b09_more_lists_and_objects_than_anybody_means_are_refused_before_they_are_made(
    gateway: Gateway, entry, text: bytes
):
    before = resident()
    # The first contradiction ends the reading: most are wrong before there are too many of anything.
    early = ("UNKNOWN_FIELD", "VALUE", "BATCH_LIMIT", "SHAPE_MISMATCH")
    refused(gateway.call("POST", entry.path, text, JSON), 400, "TOO_MANY_PARTS", *early)
    assert resident() - before < 64 * MIB


HEAD = b"POST /v1/models/pair:predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def flood(wire: Wire, head: bytes, piece: bytes, times: int) -> None:
    """Send a head and then the same piece again and again, until the server has had enough."""
    wire.send(head).send_what_is_taken(*[piece] * times)


@pytest.mark.parametrize("chunk", [b"1\r\n \r\n", b"1;ext=1\r\n \r\n"], ids=["plain", "extended"])
def test_b15_a_million_chunks_are_too_many(gateway: Gateway, chunk: bytes):
    before = resident()
    with gateway.wire() as wire:
        flood(wire, HEAD + b"transfer-encoding: chunked\r\n\r\n", chunk * 10_000, 100)
        refused(wire.answer(), 413, "TOO_MANY_CHUNKS")
    assert resident() - before < 20 * MIB


def test_b15_what_surrounds_the_chunks_is_limited_too(small: Gateway):
    """Extensions and trailers are not part of the body; without a limit of their own they would have none."""
    head = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    for start in (b"1;", b"0\r\nx: ", b"1\r\n \r\n0\r\n"):
        with small.wire() as wire:
            flood(wire, head + start, b"x" * 10_000, 1000)
            refused(wire.answer(), (400, 413, 431), "TOO_MANY_CHUNKS", "BAD_REQUEST", "HEADERS_TOO_LARGE")


def test_a_chunked_body_is_read_whatever_its_chunks(gateway: Gateway):
    text = PREDICT.good
    for size in (1, 7, len(text)):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        body = b"".join(b"%X;a=b\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
        assert gateway.call("POST", PREDICT.path, body, {**JSON, "transfer-encoding": "chunked"}).status == 200


@pytest.mark.parametrize("lines", [b"", b"expect: 100-continue\r\n"], ids=["plain", "expect"])
def test_b17_a_body_over_the_limit_is_refused_before_it_is_read(small: Gateway, lines: bytes):
    for path in (b"/v1/models/pair:predict", b"/v2/models/pair/infer", b"/nowhere"):
        with small.wire() as wire:
            head = HEAD.replace(b"/v1/models/pair:predict", path) + lines + b"content-length: %d\r\n\r\n" % (LIMIT + 1)
            refused(wire.send(head).answer(), 413, "BODY_TOO_LARGE")
            assert wire.rest() == b""


def test_b17_a_body_that_grows_over_the_limit_is_refused_there(small: Gateway):
    with small.wire() as wire:
        flood(wire, HEAD + b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + bytes(65536) + b"\r\n", 100)
        refused(wire.answer(), 413, "BODY_TOO_LARGE")


def test_b17_a_body_within_the_limit_is_asked_for(gateway: Gateway):
    with gateway.wire() as wire:
        wire.send(HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(PREDICT.good))
        assert wire.answer().status == 100
        assert wire.send(PREDICT.good).answer().status == 200
        wire.send(HEAD + b"expect: 200-ok\r\ncontent-length: 1\r\n\r\n")
        refused(wire.answer(), 417)


def test_b17_an_old_client_is_not_asked(gateway: Gateway):
    """RFC 9110: an expectation in an HTTP/1.0 request is ignored."""
    with gateway.wire() as wire:
        wire.send(
            HEAD.replace(b"1.1", b"1.0") + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(PREDICT.good)
        )
        assert wire.send(PREDICT.good).answer().status == 200


def test_b18_whoever_takes_too_long_is_told_so_and_cut_off(small: Gateway):
    """All at once: the server looks at its connections once a second. Nobody else waits meanwhile."""
    head = HEAD + b"content-length: 100\r\n\r\n"
    waiting = {
        "silent head": small.wire().send(b"GET /v2"),
        "slow head": small.wire().send(b"GET /"),
        "silent body": small.wire().send(head),
        "slow body": small.wire().send(head),
        "silent chunks": small.wire().send(HEAD + b"transfer-encoding: chunked\r\n\r\n"),
    }
    idle = small.wire()
    used = small.wire()
    assert used.send(request("GET", "/v2")).answer().status == 200
    end = time.monotonic() + 5
    answered = set()
    while len(answered) < len(waiting) and time.monotonic() < end:
        for name in waiting.keys() - answered:
            if name.startswith("slow"):
                waiting[name].send_what_is_taken(b"x")
            if waiting[name].has_answer(0.02):
                refused(waiting[name].answer(), 408, "TIMEOUT")
                answered.add(name)
        assert_right(small)
    assert answered == waiting.keys()
    for wire in waiting.values():
        assert wire.rest() == b""
    assert idle.rest() == used.rest() == b"", "an idle connection ends without a word"
    for wire in (idle, used, *waiting.values()):
        wire.close()


def test_b18_whoever_does_not_read_is_cut_off(small: Gateway):
    """A caller asks for more than the network holds and reads nothing of it."""
    body = tensor("FP64", [1, 100_000], [0.1] * 100_000)
    data = request("POST", "/v2/models/echo-float64/infer", json.dumps({"inputs": [body]}).encode(), JSON)
    assert infer_json(small, "echo-float64", body).status == 200
    with small.wire(receive_buffer=4096) as wire:
        assert not wire.send_what_is_taken(*[data] * 400)
        with contextlib.suppress(ConnectionError):
            assert len(wire.rest()) < 100 * len(data)


def test_b18_a_request_in_hand_is_answered_although_the_next_one_is_late(small: Gateway):
    """The head of a second request never ends; that is no reason to lose the first, which the model is still busy with."""
    OPEN.clear()
    with small.wire() as wire:
        wire.send(request("POST", "/v1/models/patient:predict", b'{"instances": [{"x": -1}]}', JSON) + b"GET /v2 HT")
        try:
            assert WAITING.acquire(timeout=60)
            small.wait_until(lambda: any(c.phase is Phase.REFUSED for c in small.server.connections))
            assert_right(small)
        finally:
            OPEN.set()
        assert wire.answer().json()["predictions"] == [{"y": -1}]
        refused(wire.answer(), 408, "TIMEOUT")
        assert wire.rest() == b""


def test_b18_a_caller_is_not_late_while_the_server_does_not_read(small: Gateway):
    """More requests are sent ahead than the server reads ahead; the rest of them waits in the network, half a request too."""
    OPEN.clear()
    ahead = request("POST", "/v1/models/echo-float64:predict", b'{"instances": [{"x": [1, 2, 3]}]}', JSON)
    count = SMALL.max_pipelined + 8
    with small.wire() as wire:
        wire.send(request("POST", "/v1/models/patient:predict", b'{"instances": [{"x": -1}]}', JSON))
        try:
            assert WAITING.acquire(timeout=60)
            # One piece, so that reading stops in the middle of a request and not between two.
            wire.send(ahead * SMALL.max_pipelined + ahead[:-5])
            small.wait_until(lambda: any(c.phase is Phase.BODY and not c.is_reading for c in small.server.connections))
            wire.send(ahead[-5:] + ahead * (count - SMALL.max_pipelined - 1))
            late = small.server.state.clock + 2.5
            small.wait_until(lambda: small.server.state.clock > late)
        finally:
            OPEN.set()
        assert [wire.answer().status for _ in range(count + 1)] == [200] * (count + 1)
