"""B39–B42: binary bodies whose parts do not fit together."""

import json
import struct
from typing import Any

import pytest

from tests.conformance.bad_inputs.entries import BINARY_INFER, LENGTH, OCTETS, elements, infer_raw, short, vector
from tests.conformance.serving.expectations import MARKER, assert_right, refused
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.wire import Answer

PATH = BINARY_INFER.path
TEXT = BINARY_INFER.good
TAIL = BINARY_INFER.tail or b""


def send(gateway: Gateway, inputs: Any, tail: bytes, path: str = PATH, **rest: Any) -> Answer:
    text = json.dumps({"inputs": inputs, **rest}).encode()
    return gateway.call("POST", path, text + tail, {**OCTETS, LENGTH: str(len(text))})


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "99999999999",
        "9" * 5000,
        "abc",
        MARKER,
        "1e2",
        "5.0",
        "+5",
        "0x10",
        "",
        "1 2",
        f"{len(TEXT)}, {len(TEXT)}",
        "\xb2",
    ],
    ids=short,
)
def test_b39_the_length_of_the_json_part_is_a_whole_number(gateway: Gateway, value: str):
    answer = refused(gateway.call("POST", PATH, TEXT + TAIL, {**OCTETS, LENGTH: value}), 400, "INVALID_HEADER")
    assert [d["path"] for d in answer["details"]] == ["Inference-Header-Content-Length"]


def test_b39_the_length_of_the_json_part_is_within_the_body(gateway: Gateway):
    for length in (len(TEXT + TAIL) + 1, len(TEXT + TAIL) + 10**6):
        refused(gateway.call("POST", PATH, TEXT + TAIL, {**OCTETS, LENGTH: str(length)}), 400, "INVALID_HEADER")
    for length in (1, len(TEXT) - 1, len(TEXT) + 1, len(TEXT + TAIL)):
        refused(gateway.call("POST", PATH, TEXT + TAIL, {**OCTETS, LENGTH: str(length)}), 400, "BAD_JSON")


def test_b39_the_header_given_twice_is_refused(gateway: Gateway):
    line = f"{LENGTH}: {len(TEXT)}\r\n".encode()
    head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n" % (PATH.encode(), len(TEXT + TAIL))
    with gateway.wire() as wire:
        refused(wire.send(head + line * 2 + b"\r\n" + TEXT + TAIL).answer(), 400, "INVALID_HEADER")
        assert wire.send(head + line + b"\r\n" + TEXT + TAIL).answer().status == 200


def test_b39_without_the_header_the_whole_body_is_json(gateway: Gateway):
    refused(gateway.call("POST", PATH, TEXT + TAIL, OCTETS), 400, "BAD_JSON")
    refused(gateway.call("POST", PATH, TEXT, OCTETS), 400, "DATA_SIZE")


def test_b39_zero_is_a_raw_request_and_only_for_a_model_with_one_input(gateway: Gateway):
    """Triton's raw binary request: the body is the one tensor, as one row."""
    zero = {**OCTETS, LENGTH: "0"}
    refused(gateway.call("POST", PATH, TAIL, zero), 400, "UNSUPPORTED")
    content = struct.pack("<3f", 1, 2, 3)
    answer = gateway.call("POST", "/v2/models/echo-float32/infer", content, zero)
    assert answer.body.endswith(content)
    assert json.loads(answer.body[: int(answer.headers[LENGTH])])["outputs"][0]["shape"] == [1, 3]
    refused(gateway.call("POST", "/v2/models/echo-float32/infer", content[:-1], zero), 400, "DATA_SIZE")
    refused(gateway.call("POST", "/v2/models/labelled/infer", content, zero), 400, "DATA_SIZE")
    refused(gateway.call("POST", "/v2/models/labelled/infer", b"", zero), 400, "DATA_SIZE", "EMPTY_BODY")
    refused(
        gateway.call("POST", "/v2/models/echo-string/infer", b"abc", zero), 400, "UNSUPPORTED"
    )  # any number of texts
    one = gateway.call("POST", "/v2/models/echo-one/infer", b"427", zero)
    assert one.body.endswith(b"\x03\x00\x00\x00427")
    refused(gateway.call("POST", "/v2/models/echo-bool/infer", b"\x02", zero), 400, "VALUE")


@pytest.mark.parametrize("difference", [-16, -9, -8, -1, 1, 4, 8, 1_000_000])
def test_b40_the_sizes_add_up_to_the_tail(gateway: Gateway, difference: int):
    tail = TAIL[:difference] if difference < 0 else TAIL + bytes(difference)
    answer = refused(send(gateway, [vector("a", 8), vector("b", 8)], tail), 400, "DATA_SIZE")
    missing = -difference - 8 if difference < -8 else -difference
    assert f"{abs(missing)} bytes are " in answer["error"]


@pytest.mark.parametrize("size", [-1, -8, 0, 7, 9, 16, 2**31, 2**64, 10**400, 8.0, "8", True, None, [8], {}])
def test_b40_a_size_is_that_of_the_tensor(gateway: Gateway, size: Any):
    for inputs in ([vector("a", size), vector("b", 8)], [vector("a", 8), vector("b", size)]):
        refused(send(gateway, inputs, TAIL), 400, "DATA_SIZE", "INVALID_PARAMETER", "NUMBER_RANGE")


def test_b40_bytes_of_one_tensor_are_not_read_into_the_next(gateway: Gateway):
    refused(send(gateway, [vector("a", 12), vector("b", 4)], TAIL), 400, "DATA_SIZE")
    refused(send(gateway, [vector("a", 4), vector("b", 12)], TAIL), 400, "DATA_SIZE")


def test_b40_data_and_binary_exclude_each_other(gateway: Gateway):
    both = {**vector("a", 8), "data": [1, 2]}
    neither = {k: v for k, v in vector("a", 8).items() if k != "parameters"}
    for first in (both, neither, {**neither, "parameters": {}}, {**both, "data": []}, {**both, "data": None}):
        refused(send(gateway, [first, vector("b", 8)], TAIL), 400, "DATA_SIZE", "DTYPE")
    mixed = {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2]}
    assert send(gateway, [mixed, vector("b", 8)], TAIL[8:]).json()["outputs"][0]["data"] == [1.75, 0]


@pytest.mark.parametrize("size", [7, 1, 0, 9, 6])
def test_b42_a_size_is_a_multiple_of_the_elements(gateway: Gateway, size: int):
    refused(infer_raw(gateway, "echo-float32", ("x", "FP32", [1, 2], bytes(size))), 400, "DATA_SIZE")


@pytest.mark.parametrize(
    "hint", [{"endian": "big"}, {"byte_order": ">"}, {"binary_data": True}, {"content_type": "raw"}]
)
def test_b42_there_is_no_other_byte_order(gateway: Gateway, hint: dict[str, Any]):
    first = vector("a", 8)
    first["parameters"] |= hint
    refused(send(gateway, [first, vector("b", 8)], TAIL), 400, "INVALID_PARAMETER")


LIES = {
    "a length of 2^32 - 1": b"\xff\xff\xff\xff" + b"abcd",
    "one byte past the end": struct.pack("<I", 5) + b"abcd",
    "far past the end": struct.pack("<I", 1 << 31) + b"abcd",
    "a length cut off": elements(b"ab") + b"\x01\x00",
    "an element missing": elements(b"abcd"),
    "an element too many": elements(b"a", b"b", b"c"),
    "bytes left over": elements(b"a", b"b") + b"\0",
    "nothing": b"",
    "big-endian lengths": b"\0\0\0\x01a\0\0\0\x01b",
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES)
@pytest.mark.parametrize("model", ["echo-string", "echo-bytes"])
def test_b41_elements_stay_within_their_bytes(gateway: Gateway, model: str, content: bytes):
    refused(infer_raw(gateway, model, ("x", "BYTES", [1, 2], content)), 400, "DATA_SIZE")


def test_b41_the_bytes_of_a_following_tensor_are_not_an_elements(gateway: Gateway):
    body = struct.pack("<I", 6) + b"ab" + struct.pack("<I", 0)
    inputs = [
        {"name": "x", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": s}} for s in (6, 4)
    ]
    inputs[1]["name"] = "y"
    refused(send(gateway, inputs, body, "/v2/models/echo-bytes/infer"), 400, "DATA_SIZE")


def test_a_known_binary_request_is_judged_anew_when_its_bytes_differ(gateway: Gateway):
    """The gateway remembers the JSON part of good binary requests; what follows it is looked at each time."""
    assert BINARY_INFER.send(gateway, TEXT).status == 200
    headers = BINARY_INFER.headers(TEXT)
    for tail in (TAIL[:-1], TAIL + b"\0", b"", TAIL * 2):
        refused(gateway.call("POST", PATH, TEXT + tail, headers), 400, "DATA_SIZE")
    nan = struct.pack("<4f", 1, float("nan"), 2, 3)
    refused(gateway.call("POST", PATH, TEXT + nan, headers), 400, "NOT_FINITE")
    answer = gateway.call("POST", PATH, TEXT + struct.pack("<4f", 1, 2, 3, 4), headers)
    assert answer.json()["outputs"][0]["data"] == [4, 6]
    refused(gateway.call("POST", "/v2/models/echo-float32/infer", TEXT + TAIL, headers), 400, "INPUT_SET")
    assert_right(gateway)
