"""B16 and B19–B22: requests whose frame, head, method, path or host is not what it should be, byte for byte."""

import pytest

from tests.conformance.bad_inputs.entries import JSON_INFER, PREDICT, short
from tests.conformance.serving.expectations import MARKER, assert_logged, refused
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.paths import every_path
from tests.conformance.serving.wire import JSON, Wire, request

HEAD = b"POST /v2/models/pair/infer HTTP/1.1\r\nhost: localhost\r\n"
SECOND = request("GET", "/v2/models")
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def closed_after_refusal(wire: Wire, status: int | tuple[int, ...], *codes: str) -> dict:
    """Assert that the server refuses, says that it closes, and closes without another answer."""
    answer = wire.answer()
    body = refused(answer, status, *codes)
    assert answer.headers["connection"] == "close"
    assert wire.rest() == b"", "what follows is not taken for a request"
    return body


SMUGGLED = {
    "length and chunked": HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"content-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
    "the same length twice": HEAD + b"content-length: 4\r\ncontent-length: 4\r\n\r\nabcd",
    "a list of lengths": HEAD + b"content-length: 4, 4\r\n\r\nabcd",
    "a length with a sign": HEAD + b"content-length: +4\r\n\r\nabcd",
    "a negative length": HEAD + b"content-length: -4\r\n\r\nabcd",
    "a hexadecimal length": HEAD + b"content-length: 0x4\r\n\r\nabcd",
    "an empty length": HEAD + b"content-length: \r\n\r\nabcd",
    "a length beyond 64 bits": HEAD + b"content-length: 99999999999999999999\r\n\r\nabcd",
    "another coding": HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "no coding": HEAD + b"transfer-encoding: identity\r\n\r\n",
    "two codings": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding after chunked": HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding behind a control character": HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk size": CHUNKED + b"zz\r\nab\r\n0\r\n\r\n",
    "a chunk size with a prefix": CHUNKED + b"0x2\r\nab\r\n0\r\n\r\n",
    "a negative chunk size": CHUNKED + b"-2\r\nab\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\nab\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"2\r\nabcd\r\n0\r\n\r\n",
    "a chunk that ends in LF": CHUNKED + b"2\nab\n0\n\n",
    "a head that ends in LF": b"GET /v2 HTTP/1.1\nhost: localhost\n\n",
    "a header that ends in LF": b"GET /v2 HTTP/1.1\r\nhost: localhost\nx: y\r\n\r\n",
    "a header with a bare CR": b"GET /v2 HTTP/1.1\r\nhost: localhost\rx: y\r\n\r\n",
    "a folded header": b"GET /v2 HTTP/1.1\r\nhost: localhost\r\nx: a\r\n b\r\n\r\n",
    "a space before the first header": b"GET /v2 HTTP/1.1\r\n host: localhost\r\n\r\n",
    "a header with NUL": b"GET /v2 HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n",
    "a header without a colon": b"GET /v2 HTTP/1.1\r\nhost: localhost\r\nabc\r\n\r\n",
    "a header without a name": b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n: x\r\n\r\n",
    "a header whose name is not a token": b"GET /v2 HTTP/1.1\r\nhost: localhost\r\na b: x\r\n\r\n",
    "no version": b"GET /v2\r\nhost: localhost\r\n\r\n",
    "a version to come": b"GET /v2 HTTP/1.2\r\nhost: localhost\r\n\r\n",
    "another protocol": b"GET /v2 HTTQ/1.1\r\nhost: localhost\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "a target with a space": b"GET /v2 /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED)
@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["bytes", "pieces", "whole"])
def test_b16_a_frame_in_doubt_is_refused_and_ends_the_connection(gateway: Gateway, data: bytes, size: int):
    with gateway.wire() as wire:
        wire.send_what_is_taken(*(data[i : i + size] for i in range(0, len(data), size)), SECOND)
        closed_after_refusal(wire, 400, "BAD_REQUEST")


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED)
def test_b16_what_came_before_is_still_answered(gateway: Gateway, data: bytes):
    with gateway.wire() as wire:
        wire.send(SECOND + data + SECOND)
        assert wire.answer().status == 200
        closed_after_refusal(wire, 400, "BAD_REQUEST")


def test_b16_a_trailer_does_not_become_a_header(gateway: Gateway):
    """Host, coding and type were judged before the body came; a trailer must not change them afterwards."""
    text = JSON_INFER.good
    body = b"%x\r\n%s\r\n0\r\n" % (len(text), text)
    trailers = [
        b"host: evil.example",
        b"content-type: text/plain",
        b"content-encoding: gzip",
        b"x-request-timeout-ms: x",
    ]
    with gateway.wire() as wire:
        for trailer in trailers:
            wire.send(CHUNKED + body + trailer + b"\r\n\r\n")
            assert wire.answer().status == 200


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ({f"x-{i}": "1" for i in range(1000)}, 431),
        ({"x-long": "x" * (1 << 20)}, 431),
        ({"x-long": "x" * 33_000}, 431),
        ({"x" * 40_000: "1"}, 431),
        ({"x-nul": "a\0b"}, 400),
        ({"x-cr": "a\rb"}, 400),
        ({"x-lf": "a\nb"}, 400),
    ],
    ids=["count", "1 MB", "33 kB", "name", "nul", "cr", "lf"],
)
def test_b19_a_head_has_limits(gateway: Gateway, lines: dict[str, str], status: int):
    with gateway.wire() as wire:
        wire.send_what_is_taken(request("GET", "/v2", headers=lines))
        closed_after_refusal(wire, status, "HEADERS_TOO_LARGE" if status == 431 else "BAD_REQUEST")


def test_b19_the_same_header_many_times_counts_each_time(gateway: Gateway):
    with gateway.wire() as wire:
        wire.send(b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n" + b"a:\r\n" * 5000)
        closed_after_refusal(wire, 431, "HEADERS_TOO_LARGE")


def test_b19_a_head_within_its_limits_is_read(gateway: Gateway):
    headers = {f"x-{i}": "y" * 200 for i in range(98)}
    assert gateway.call("GET", "/v2", headers=headers).status == 200


def test_b19_a_target_has_a_limit(gateway: Gateway):
    refused(gateway.call("GET", "/v2/" + "x" * 5000), 414, "TARGET_TOO_LONG")
    with gateway.wire() as wire:
        wire.send(b"GET /" + b"x" * 100_000)
        closed_after_refusal(wire, 431, "HEADERS_TOO_LARGE")


METHODS = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PURGE",
    "FOO",
    "get",
)


@pytest.mark.parametrize("method", METHODS)
def test_b20_a_path_takes_its_own_methods_only(gateway: Gateway, method: str):
    for path, allowed in every_path(gateway).items():
        if method in allowed:
            continue
        for body in (None, b"{}"):
            answer = gateway.call(method, path, body)
            assert answer.headers["allow"].split(", ") == sorted(allowed), path
            if method == "HEAD":
                assert answer.status == 405
                assert answer.body == b""
            else:
                refused(answer, 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("header", ["x-http-method-override", "x-http-method", "x-method-override", "_method"])
def test_b20_a_header_does_not_change_the_method(gateway: Gateway, header: str):
    answer = gateway.call("GET", "/v2/models", headers={header: "DELETE"})
    assert "pair" in answer.json()["models"]
    refused(gateway.call("POST", "/v2/models?_method=GET", b"", {header: "GET"}), 405, "METHOD_NOT_ALLOWED")


def test_b20_what_follows_a_connect_is_not_http(gateway: Gateway):
    for target in (b"/v2", b"localhost:443", b"*"):
        with gateway.wire() as wire:
            wire.send(b"CONNECT %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % target + SECOND)
            closed_after_refusal(wire, (405, 400))


def test_b20_an_unknown_method_on_an_unknown_path_is_not_found(gateway: Gateway):
    for target in ("/nowhere", "/v2/models/PAIR", "/v2/models/pair/explain"):
        refused(gateway.call("FOO", target), 404, "NOT_FOUND")
    refused(gateway.call("FOO\x01", "/v2"), 400, "BAD_REQUEST")
    with gateway.wire() as wire:
        wire.send(SECOND + b"FOO /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert wire.answer().status == 200
        closed_after_refusal(wire, 400, "BAD_REQUEST")


ODD_PATHS = [
    "/v2/models/..%2f..%2fetc", "/v2/models/%2e%2e/%2e%2e/etc", "/v2/models/%252e%252e", "/v2/models/pair;a=b/../ready",
    "//v2", "/v2//models", "/v2/models//pair", "///", "/v2/models/pair//ready", "/v2/models/pair/ready//", "/./v2", "/v2/.", "/v2/..",
    "/v2/../v2/models", "/v2/models/a%00b", "/v2%00", "/v2%2fmodels", "/v2/models%2fpair", "/v2\\models", "/v2%5cmodels", "/v2.", "/V2",
    "/v2/Models", "/v2/health/LIVE", "/v2/health/live.", "/v2/health/live%20", "/v2/health/live%0a", "/v2/models/pair%0d%0ax:y",
    "/%c0%af", "/v2/%c0%ae%c0%ae/models", "/%ff", "/%e0%80%af", "/v2/%", "/v2/%zz", "/v2/%2", "/v2#x", "/v2;x", "/v2,models", "/~",
    "/v1/models/pair:predict:predict", "/v1/models/pair%3apredict/x", "/v1/models/:predict", "/v1/models/pair:", "/v1/models/pair:explain",
    "/v1/models/pair/labels/Prod:predict", f"/{MARKER}", "/.env", "/.git/config", "/favicon.ico", "/v3",
]  # fmt: skip


@pytest.mark.parametrize("path", ODD_PATHS)
def test_b21_a_path_has_one_spelling(gateway: Gateway, path: str):
    for method, body in (("GET", None), ("POST", PREDICT.good)):
        refused(gateway.call(method, path, body), (400, 404))


def test_b21_bytes_that_a_target_may_not_have_are_refused(gateway: Gateway):
    for target in (b"/v2/\xff", b"/v2/\xc3\xa9", b"/v2\t", b"/v2\0", b"/v2\x7f", b"v2", b"", b"?"):
        with gateway.wire() as wire:
            refused(wire.send(b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % target).answer(), 400)


def test_b21_a_query_and_one_trailing_slash_do_not_matter(gateway: Gateway):
    for path in (
        "/v2/",
        "/v2?x=1",
        "/v2/?../..",
        "/v2/models/?a=%00",
        "/v2/models/pair/",
        "/v2/models/pair/ready/?%zz",
    ):
        assert gateway.call("GET", path).status == 200
    assert gateway.call("POST", PREDICT.path + "?alt=json", PREDICT.value).status == 200


HOSTS = {
    "another name": (b"evil.example", 421),
    "another name with our port": (b"evil.example:8000", 421),
    "our name as a prefix": (b"localhost.evil.example", 421),
    "our name as a suffix": (b"evil-localhost", 421),
    "a trailing dot": (b"localhost.", 421),
    "an address of the network": (b"0.0.0.0", 421),
    "another loopback address": (b"127.1", 421),
    "nothing": (b"", 400),
    "a list": (b"localhost, evil.example", 400),
    "a path": (b"localhost/evil", 400),
    "a user": (b"evil@localhost", 400),
    "a backslash": (b"localhost\\evil", 400),
    "a marker": (MARKER.encode(), 421),
}


@pytest.mark.parametrize(("host", "status"), HOSTS.values(), ids=HOSTS)
def test_b22_the_host_is_this_server(gateway: Gateway, host: bytes, status: int):
    with gateway.wire() as wire:
        wire.send(b"GET /v2/models HTTP/1.1\r\nhost: %s\r\n\r\n" % host, SECOND)
        body = closed_after_refusal(wire, status, "MISDIRECTED" if status == 421 else "BAD_REQUEST")
    assert_logged(gateway, body, status)


def test_b22_a_host_is_required_and_given_once(gateway: Gateway):
    for lines in (b"", b"host: localhost\r\nhost: localhost\r\n", b"host: localhost\r\nHost: evil.example\r\n"):
        with gateway.wire() as wire:
            wire.send(b"GET /v2/models HTTP/1.1\r\n" + lines + b"\r\n")
            closed_after_refusal(wire, 400, "BAD_REQUEST")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost:1", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"]
)
def test_b22_the_names_of_this_machine_are_ours(gateway: Gateway, host: str):
    assert gateway.call("GET", "/v2/health/live", host=host).status == 200


@pytest.mark.parametrize(
    "target", ["http://localhost/v2", "http://evil.example/v2", "https://localhost/v2", "*", "localhost:80"], ids=short
)
def test_b22_a_target_is_a_path(gateway: Gateway, target: str):
    refused(gateway.call("GET", target), 400, "BAD_REQUEST")


def test_b22_a_known_request_is_judged_anew_when_its_host_differs(gateway: Gateway):
    """The gateway remembers the heads it has admitted; one byte more or less makes another head."""
    good = request("POST", PREDICT.path, PREDICT.good, JSON)
    with gateway.wire() as wire:
        for _ in range(3):
            assert wire.send(good).answer().status == 200
        wire.send(good.replace(b"host: localhost", b"host: localhosu"))
        closed_after_refusal(wire, 421, "MISDIRECTED")
