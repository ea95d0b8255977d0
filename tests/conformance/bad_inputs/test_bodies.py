"""B01–B12: bodies that are not the JSON they should be, on every entry that takes a body."""

import gzip
import json

import pytest

from tests.conformance.bad_inputs.entries import ENTRIES, JSON_INFER, LENGTH, PREDICT, Entry
from tests.conformance.serving.expectations import MARKER, assert_logged, refused
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.wire import JSON, request

every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=repr)
BOM = b"\xef\xbb\xbf"


def replaced(entry: Entry, old: bytes, new: bytes) -> bytes:
    """Return the good text with one piece of it exchanged; the piece must be there."""
    assert old in entry.good
    return entry.good.replace(old, new, 1)


def with_member(entry: Entry, member: bytes) -> bytes:
    """Return the good text with a member put first."""
    return b"{" + member + b"," + entry.good[1:]


@every_entry
def test_the_good_text_itself_is_answered(gateway: Gateway, entry: Entry):
    assert entry.send(gateway, entry.good).status == 200


@pytest.mark.parametrize("path", sorted({entry.path for entry in ENTRIES}))
@pytest.mark.parametrize(
    "headers", [JSON, {**JSON, "transfer-encoding": "chunked"}, {}], ids=["length", "chunked", "none"]
)
def test_b01_an_empty_body_is_said_to_be_empty(gateway: Gateway, path: str, headers: dict[str, str]):
    body = b"0\r\n\r\n" if "transfer-encoding" in headers else b""
    answer = refused(gateway.call("POST", path, body, headers), 400, "EMPTY_BODY")
    assert_logged(gateway, answer, 400)


def test_b01_an_empty_body_in_an_encoding_is_refused(gateway: Gateway):
    headers = {**JSON, "content-encoding": "gzip"}
    refused(gateway.call("POST", PREDICT.path, gzip.compress(b""), headers), 400, "EMPTY_BODY")
    refused(gateway.call("POST", PREDICT.path, b"", headers), 400, "BAD_MESSAGE", "EMPTY_BODY")


@every_entry
def test_b02_a_text_cut_off_anywhere_is_refused(gateway: Gateway, entry: Entry):
    """Every byte offset of a short text; of the long one, those around everything but its padding."""
    offsets = (
        range(len(entry.good))
        if len(entry.good) < 1000
        else [*range(400), *range(len(entry.good) - 30, len(entry.good))]
    )
    with gateway.wire() as wire:
        for end in offsets:
            text = entry.good[:end]
            wire.send(request("POST", entry.path, entry.body(text), entry.headers(text)))
            body = refused(wire.answer(), 400)
            if text and not entry.is_binary():
                assert body["code"] == "BAD_JSON"
                assert "byte" in body["error"], f"cut at {end}: says where"


@every_entry
@pytest.mark.parametrize("tail", [b" x", b"{}", b"]", b"\x00", b" ,", b"\n1"])
def test_b03_text_after_the_end_is_not_ignored(gateway: Gateway, entry: Entry, tail: bytes):
    refused(entry.send(gateway, entry.good + tail), 400, "BAD_JSON")


@every_entry
@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_b04_json_is_utf_8_without_a_mark(gateway: Gateway, entry: Entry, coding: str):
    refused(entry.send(gateway, entry.good.decode().encode(coding)), 400, "BAD_JSON")


@every_entry
@pytest.mark.parametrize(
    "text",
    [b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u12"', b'"a\nb"', b'"\\x"'],
)
def test_b05_text_that_is_not_unicode_is_refused(gateway: Gateway, entry: Entry, text: bytes):
    """In an id, a parameter's value, a key and a field's name."""
    for member in (b'"id":%s' % text, b'"parameters":{"a":%s}' % text, b"%s:1" % text):
        refused(entry.send(gateway, with_member(entry, member)), 400)


@every_entry
@pytest.mark.parametrize(
    "word", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf", b"01", b"+1", b".5", b"1.", b"0x10"]
)
def test_b06_what_json_does_not_call_a_number_is_none(gateway: Gateway, entry: Entry, word: bytes):
    old = b"[1, 2]" if entry.is_binary() else b"1.5"
    new = b"[1, %s]" % word if entry.is_binary() else word
    refused(entry.send(gateway, replaced(entry, old, new)), 400, "BAD_JSON")


@every_entry
@pytest.mark.parametrize(
    "number", [b"1e400", b"-1e999", b"9" * 400, b"9" * 5000], ids=["1e400", "-1e999", "400", "5000"]
)
def test_b07_a_number_out_of_range_is_not_infinity(gateway: Gateway, entry: Entry, number: bytes):
    old = b"[1, 2]" if entry.is_binary() else b"1.5"
    new = b"[1, %s]" % number if entry.is_binary() else number
    codes = ("NUMBER_RANGE", "SHAPE_MISMATCH", "SHAPE_OVERFLOW") if entry.is_binary() else ("NUMBER_RANGE", "VALUE")
    refused(entry.send(gateway, replaced(entry, old, new)), 400, *codes)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 2**63, 10**30])
def test_b08_an_integer_beyond_its_type_does_not_become_a_float(gateway: Gateway, number: int):
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, number]}]}
    for parameters in ({}, {"parameters": {"padding": "x" * 8192}}):
        refused(gateway.call("POST", "/v2/models/echo-int64/infer", {**body, **parameters}), 400, "NUMBER_RANGE")
    refused(gateway.call("POST", "/v1/models/echo-int64:predict", {"instances": [{"x": [1, number]}]}), 400)


@every_entry
@pytest.mark.parametrize("depth", [101, 1000, 1025, 250_000])
@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
def test_b09_deep_nesting_is_refused(gateway: Gateway, entry: Entry, depth: int, brackets: tuple[bytes, bytes]):
    """Alone, as an unknown member, and where values belong; closed and left open."""
    opening, closing = brackets
    nest = opening * depth + b"1" + closing * depth
    refused(entry.send(gateway, nest), 400, "TOO_DEEP")
    refused(entry.send(gateway, opening * depth), 400, "TOO_DEEP", "BAD_JSON")
    refused(entry.send(gateway, with_member(entry, b'"x":' + nest)), 400, "TOO_DEEP", "UNKNOWN_FIELD")
    if not entry.is_binary():
        refused(entry.send(gateway, replaced(entry, b"[1.5, 2]", nest)), 400, "TOO_DEEP", "SHAPE_MISMATCH", "DTYPE")


@pytest.mark.parametrize(
    "text", [b'"' + b'\\"' * 500_000, b'"' * 999_999, b'["' * 500_000], ids=["escaped", "quotes", "lists"]
)
@pytest.mark.parametrize("entry", [JSON_INFER, PREDICT], ids=repr)
def test_b09_looking_for_depth_in_a_broken_text_takes_no_time(gateway: Gateway, entry: Entry, text: bytes):
    """A search that tries again from every quote would take hours for the first of these; the caller does not wait that long."""
    refused(entry.send(gateway, text), 400, "BAD_JSON", "TOO_DEEP", "INVALID_FIELD", "VALUE")


@every_entry
@pytest.mark.parametrize(
    "member",
    [
        b'"id":"a","id":"b"',
        b'"id":"a","\\u0069d":"b"',
        b'"parameters":{"a":1,"a":2}',
        b'"parameters":{"a":1},"parameters":{"b":1}',
        b'"parameters":{"a:b":1,"a:b":2}',
    ],
)
def test_b10_a_repeated_key_is_refused(gateway: Gateway, entry: Entry, member: bytes):
    refused(entry.send(gateway, with_member(entry, member)), 400, "DUPLICATE_KEY", "BAD_JSON")


@every_entry
def test_b10_a_key_repeated_in_a_tensor_or_record_is_refused(gateway: Gateway, entry: Entry):
    if entry is PREDICT:
        text = replaced(entry, b'{"a": ', b'{"a": [0, 0], "a": ')
    else:
        text = replaced(entry, b'"shape": ', b'"shape": [1, 3], "shape": ')
        outputs = b'"outputs":[{"name":"sum","parameters":{"binary_data":true,"binary_data":false}}]'
        refused(entry.send(gateway, with_member(entry, outputs)), 400, "DUPLICATE_KEY")
        outputs = b'"outputs":[{"name":"sum","name":"difference"}]'
        refused(entry.send(gateway, with_member(entry, outputs)), 400, "DUPLICATE_KEY")
    refused(entry.send(gateway, text), 400, "DUPLICATE_KEY")


@every_entry
@pytest.mark.parametrize(
    "key", ["priority_class", f"{MARKER} {MARKER}", "Inputs", "modelName", "__proto__", "x" * 5000, "a\r\nb"]
)
def test_b11_an_unknown_member_is_refused_and_not_repeated(gateway: Gateway, entry: Entry, key: str):
    text = json.dumps(key).encode()
    codes = ("UNKNOWN_FIELD",)
    refused(entry.send(gateway, with_member(entry, text + b":1")), 400, *codes)
    first = b'{"a": ' if entry is PREDICT else b'{"name": '
    refused(entry.send(gateway, replaced(entry, first, b"{%s: 1, %s" % (text, first[1:]))), 400, *codes)


@every_entry
@pytest.mark.parametrize(
    "content_type",
    [
        "application/vnd.bentoml+pickle",
        "application/x-python-pickle",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/json, text/plain",
        "",
    ],
)
def test_b12_the_caller_does_not_choose_a_decoder(gateway: Gateway, entry: Entry, content_type: str):
    answer = refused(entry.send(gateway, entry.good, {"content-type": content_type}), 415, "UNSUPPORTED_TYPE")
    assert "application/json" in answer["error"]


@every_entry
def test_b12_no_content_type_is_the_protocols_own(gateway: Gateway, entry: Entry):
    """docs/adr/0007: clients of this protocol send none; what is read is JSON all the same."""
    headers = {k: v for k, v in entry.headers(entry.good).items() if k != "content-type"}
    assert gateway.call("POST", entry.path, entry.body(entry.good), headers).status == 200
    refused(gateway.call("POST", entry.path, b"\x80\x04K\x01.", {}), 400, "BAD_JSON")
    if entry.is_binary():
        assert LENGTH in headers


@every_entry
@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", " application/json ; a=b"]
)
def test_a_content_type_is_read_with_its_parameters_and_in_any_case(gateway: Gateway, entry: Entry, content_type: str):
    assert entry.send(gateway, entry.good, {"content-type": content_type}).status == 200
