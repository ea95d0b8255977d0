"""Properties over generated input: B02, B27–B34, B40 and B41, and that what the gateway remembers never changes a judgement.

Each property has an oracle written for clarity in plain Python; the gateway must come to the same, and never to a 5xx.
"""

import json
import math
import re
import struct
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limen.contracts.contract import Batching
from limen.contracts.tensors import BY_NAME, ElementType, Kind
from limen.gateway.http.oip import tensors
from tests.conformance.bad_inputs.entries import (
    BINARY_INFER,
    ENTRIES,
    JSON_INFER,
    LENGTH,
    PADDING,
    PREDICT,
    Entry,
    elements,
    infer_json,
    infer_raw,
    predict,
    tensor,
    vector,
)
from tests.conformance.serving.expectations import refused
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.wire import JSON, request

REFUSED = object()
"""What an oracle says of input that must be refused."""
TYPE_NAMES = ("bool", "int8", "uint8", "int32", "int64", "uint64", "float32", "float64", "string")
some = settings(max_examples=150)

numbers = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**40, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.0, -0.0, 1.5, 3.4e38, 3.5e38, 2.0**63, 1e300]),
)
scalars = st.one_of(numbers, st.booleans(), st.none(), st.text(max_size=3))
nested = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


def value_of(element: ElementType, value: Any) -> Any:
    """Return what a JSON value is as an element, or REFUSED."""
    kind = element.kind
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is Kind.BOOL:
        return value if isinstance(value, bool) else REFUSED
    if kind is Kind.TEXT:
        return value if isinstance(value, str) else REFUSED
    if not is_number:
        return REFUSED
    if kind is Kind.INT:
        is_whole = isinstance(value, int) or (value.is_integer() and abs(value) <= 2**53)
        return int(value) if is_whole and element.low <= value <= element.high else REFUSED
    try:
        with np.errstate(over="ignore"):
            number = element.dtype.type(float(value))
    except OverflowError:
        return REFUSED
    return number if math.isfinite(number) else REFUSED


def flattened(data: Any, shape: list[int]) -> Any:
    """Return the values of data that is nested as its shape says, or REFUSED."""
    if not isinstance(data, list) or len(data) != shape[0]:
        return REFUSED
    if len(shape) == 1:
        return data
    parts = [flattened(item, shape[1:]) for item in data]
    return REFUSED if any(p is REFUSED for p in parts) else [v for part in parts for v in part]


def tensor_of(element: ElementType, shape: list[Any], data: list[Any]) -> Any:
    """Return the values a JSON tensor has for a model that takes [rows, any], or REFUSED."""
    if any(isinstance(d, bool) or not isinstance(d, int) or d < 0 for d in shape) or len(shape) != 2:
        return REFUSED
    if not 1 <= shape[0] <= Batching().max_request_rows:
        return REFUSED
    is_flat = not any(isinstance(v, list) for v in data) and len(data) == math.prod(shape)
    values = data if is_flat else flattened(data, shape)
    if values is REFUSED:
        return REFUSED
    found = [value_of(element, v) for v in values]
    return REFUSED if any(v is REFUSED for v in found) else found


dimensions = st.one_of(st.integers(0, 4), st.sampled_from([-1, 2**31, 2**62, 2**64, 1.0, True, None, "1"]))


@some
@given(
    name=st.sampled_from(TYPE_NAMES),
    shape=st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 3)).map(list), st.lists(dimensions, max_size=4)),
    data=st.one_of(st.lists(numbers, max_size=6), st.lists(nested, max_size=6)),
    is_large=st.booleans(),
)
@example(name="int32", shape=[3, 1], data=[[1, 2], [], [3]], is_large=True)
@example(name="float32", shape=[1, 2], data=[[1], [2]], is_large=True)
@example(name="bool", shape=[2**31, 0], data=[], is_large=False)
def test_b27_to_b33_a_json_tensor_is_what_it_says_or_refused(
    gateway: Gateway, name: str, shape: Any, data: Any, is_large: bool
):
    element = BY_NAME[name]
    check_tensor(gateway, element, shape, data, is_large=is_large)


@some
@given(st.data())
def test_b31_values_are_exact_or_refused(gateway: Gateway, data: st.DataObject):
    """Tensors whose form is right, so that the values decide; flat and nested."""
    element = BY_NAME[data.draw(st.sampled_from(TYPE_NAMES))]
    rows, size = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 3))
    near = st.one_of(
        st.integers(element.low - 2, element.low + 2), st.integers(element.high - 2, element.high + 2), st.just(1.0)
    )
    usual = {Kind.BOOL: st.booleans(), Kind.TEXT: st.text(max_size=4), Kind.INT: near}.get(element.kind, numbers)
    values = data.draw(st.lists(st.one_of(usual, usual, usual, scalars), min_size=rows * size, max_size=rows * size))
    if data.draw(st.booleans()):
        values = [values[i * size : (i + 1) * size] for i in range(rows)]
    check_tensor(gateway, element, [rows, size], values, is_large=data.draw(st.booleans()))


def check_tensor(gateway: Gateway, element: ElementType, shape: Any, data: Any, *, is_large: bool) -> None:
    expected = tensor_of(element, shape, data)
    rest = {"parameters": PADDING} if is_large else {}
    answer = infer_json(gateway, f"echo-{element.name}", tensor(element.wire, shape, data), **rest)
    if expected is REFUSED:
        refused(answer, 400)
        return
    assert answer.status == 200, answer
    (output,) = answer.json()["outputs"]
    got = output["data"]
    if element.kind is Kind.FLOAT:
        got, expected = (np.array(v, element.dtype).tobytes() for v in (got, expected))
    assert (output["shape"], got) == (shape, expected)


@some
@given(entry=st.sampled_from(ENTRIES), data=st.data())
def test_b02_a_damaged_text_is_refused_or_another_good_text(gateway: Gateway, entry: Entry, data: st.DataObject):
    """A byte changed, left out, put in, or a piece doubled; never a fault of the server."""
    text = entry.good
    at = data.draw(st.integers(0, len(text) - 1))
    upto = data.draw(st.integers(at, min(len(text), at + 12)))
    filling = data.draw(
        st.one_of(
            st.binary(max_size=3), st.sampled_from([text[at:upto] * 2, b'"', b"1e999", b"null", b"[]", b"{}", b"-"])
        )
    )
    damaged = text[:at] + filling + text[upto:]
    answer = entry.send(gateway, damaged)
    if answer.status != 200:
        refused(answer, 400)
    else:
        json.loads(damaged)


@some
@given(
    content=st.one_of(st.binary(max_size=40), st.lists(st.binary(max_size=6), max_size=4).map(lambda v: elements(*v))),
    count=st.integers(0, 4),
)
@example(content=b"\xff\xff\xff\xff", count=1)
@example(content=struct.pack("<I", 0) * 3, count=2)
def test_b41_elements_are_read_exactly_or_refused(gateway: Gateway, content: bytes, count: int):
    rest, found = content, 0
    while len(rest) >= 4 and len(rest) - 4 >= (size := struct.unpack_from("<I", rest)[0]) and found < count:
        rest, found = rest[4 + size :], found + 1
    answer = infer_raw(
        gateway, "echo-bytes", ("x", "BYTES", [1, count], content), parameters={"binary_data_output": True}
    )
    if found == count and not rest:
        assert answer.status == 200, answer
        assert answer.body[int(answer.headers.get(LENGTH, len(answer.body))) :] == content
    else:
        refused(answer, 400, "DATA_SIZE")


@some
@given(
    sizes=st.lists(st.sampled_from([8, 8, 8, 0, 4, 7, 9, 12, 16, -1, 2**40]), min_size=2, max_size=2),
    tail=st.integers(0, 24),
)
def test_b40_sizes_fit_exactly_or_are_refused(gateway: Gateway, sizes: list[int], tail: int):
    text = json.dumps({"inputs": [vector("a", sizes[0]), vector("b", sizes[1])]}).encode()
    content = (BINARY_INFER.tail or b"")[:tail].ljust(tail, b"\0")
    answer = gateway.call("POST", BINARY_INFER.path, text + content, {LENGTH: str(len(text))})
    if sizes == [8, 8] and tail == 16:
        assert answer.json()["outputs"][0]["data"] == [1.75, 0]
    else:
        refused(answer, 400, "DATA_SIZE")


@some
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9))
@example(bits=[0x7F7FFFFF, 0x7F7FFFFF])
@example(bits=[0x7F800000, 0xFF800000])
def test_b32_floats_come_back_bit_for_bit_or_are_refused(gateway: Gateway, bits: list[int]):
    content = struct.pack(f"<{len(bits)}I", *bits)
    arguments = ("x", "FP32", [1, len(bits)], content)
    answer = infer_raw(gateway, "echo-float32", arguments, parameters={"binary_data_output": True})
    if np.isfinite(np.frombuffer(content, np.float32)).all():
        assert answer.body[int(answer.headers[LENGTH]) :] == content
    else:
        refused(answer, 400, "NOT_FINITE")


RULES = {
    "amount": lambda v: value_of(BY_NAME["float32"], v) is not REFUSED and 0 <= v <= 1000,
    "count": lambda v: value_of(BY_NAME["uint8"], v) is not REFUSED and v >= 1,
    "grade": lambda v: v in ("A", "B", "C"),
    "code": lambda v: isinstance(v, str) and re.search(r"\A[A-Z]{2}[0-9]{2}\Z", v) is not None,
    "note": lambda v: isinstance(v, str) and len(v) <= 5,
    "years": lambda v: v is None or value_of(BY_NAME["float32"], v) is not REFUSED,
    "place": lambda v: (
        isinstance(v, list) and len(v) == 2 and all(value_of(BY_NAME["float64"], x) is not REFUSED for x in v)
    ),
    "flag": lambda v: isinstance(v, bool),
}
OPTIONAL = {"note", "years", "flag"}
fields = st.fixed_dictionaries(
    {
        "amount": st.one_of(st.floats(0, 1000), st.sampled_from([0, 1000, 1000.1, -0.1, 1e39]), scalars),
        "count": st.one_of(st.integers(1, 255), st.sampled_from([0, 256, 1.0, 1.5]), scalars),
        "grade": st.one_of(st.sampled_from("ABCD"), scalars),
        "code": st.one_of(
            st.from_regex("[A-Z]{2}[0-9]{2}", fullmatch=True), st.sampled_from(["AB12\n", "ab12", "AB123"]), scalars
        ),
        "place": st.one_of(st.lists(numbers, min_size=2, max_size=2), nested),
    },
    optional={"note": st.one_of(st.text(max_size=6), scalars), "years": st.one_of(numbers, scalars), "flag": scalars},
)


@some
@given(rows=st.lists(fields, min_size=1, max_size=3))
def test_records_are_good_or_refused_with_the_path_of_every_mistake(gateway: Gateway, rows: list[dict[str, Any]]):
    wrong = {f"instances[{i}].{k}" for i, row in enumerate(rows) for k, v in row.items() if not RULES[k](v)}
    answer = predict(gateway, "typed", *rows)
    if not wrong:
        assert answer.status == 200, answer
        assert len(answer.json()["predictions"]) == len(rows)
    else:
        told = {re.sub(r"^(instances\[\d+\]\.\w+).*", r"\1", d["path"]) for d in refused(answer, 400)["details"]}
        assert told == wrong


FLAT = json.dumps({"inputs": [tensor("FP32", [2, 2], [1.5, 2, 3, 4])]}).encode()
GOOD_REQUESTS = (
    request("POST", "/v2/models/echo-float32/infer", FLAT, JSON),
    request("POST", "/v2/models/echo-int32/infer", FLAT.replace(b"FP32", b"INT32").replace(b"1.5", b"1"), JSON),
    request("POST", JSON_INFER.path, JSON_INFER.good, JSON),
    request("POST", PREDICT.path, PREDICT.good, JSON),
    request("POST", BINARY_INFER.path, BINARY_INFER.body(BINARY_INFER.good), BINARY_INFER.headers(BINARY_INFER.good)),
)
PIECES = (
    b"]",
    b"[",
    b",",
    b"1",
    b" ",
    b'"data":[1]',
    b'],"data":[1',
    b"1e39",
    b"true",
    b"null",
    b"9999999999",
    b'"',
    b"}",
    b"-",
)
LAST = request("GET", "/v2/health/live", headers={"connection": "close"})


def stream(gateway: Gateway, *pieces: bytes) -> bytes:
    """Return everything a connection answers, apart from what differs every time."""
    with gateway.wire() as wire:
        wire.send_what_is_taken(*pieces)
        text = wire.rest()
    return re.sub(rb"(date: [^\r]*|x-request-id: [^\r]*|\"request_id\":\"[^\"]*\")", b"", text)


def forget(gateway: Gateway) -> None:
    """Empty everything the gateway remembers of earlier requests."""

    def clear() -> None:
        gateway.server.state.known_heads._known.clear()
        gateway.server.state.application._router._remembered.clear()
        tensors._outlines.clear()
        tensors._json_outlines._known.clear()

    gateway.do(clear)


@settings(max_examples=300)
@given(data=st.data())
def test_what_is_remembered_never_changes_a_judgement(gateway: Gateway, data: st.DataObject):
    """A request like one that was good before, but for a few bytes, is judged as by a gateway that has seen nothing."""
    good = data.draw(st.sampled_from(GOOD_REQUESTS))
    head, _, body = good.partition(b"\r\n\r\n")
    at = data.draw(st.integers(0, len(body)))
    upto = data.draw(st.integers(at, min(len(body), at + 4)))
    filling = data.draw(st.one_of(st.binary(max_size=4), st.sampled_from(PIECES), st.just(body[at:upto])))
    changed = body[:at] + filling + body[upto:]
    if data.draw(st.booleans()):
        changed = changed[: len(body)].ljust(len(body), b" ")  # the head stays known
    head = re.sub(rb"content-length: \d+", b"content-length: %d" % len(changed), head)
    if data.draw(st.integers(0, 3)) == 0:
        # Not in the method: an unknown one is told apart from noise only if its head comes in one piece.
        where = data.draw(st.integers(head.index(b" "), len(head) - 1))
        if b"content-length" not in head[max(0, where - 24) : where + 24]:
            head = head[:where] + data.draw(st.binary(min_size=1, max_size=1)) + head[where + 1 :]
    variant = head + b"\r\n\r\n" + changed
    whole = variant + data.draw(st.sampled_from([b"", good])) + LAST
    cut = data.draw(st.sampled_from([len(whole), len(variant), len(variant) - 1, len(variant) + 1, 5]))
    for _ in range(2):
        stream(gateway, good, LAST)
    knowing = stream(gateway, whole[:cut], whole[cut:])
    forget(gateway)
    assert knowing == stream(gateway, whole[:cut], whole[cut:])
