"""Known heads: the same bytes get the same judgement, and no other bytes do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.gateway.engine.encoding import Inflation, choose, deflate
from limen.gateway.engine.errors import Refused
from limen.gateway.engine.heads import MAX_HEAD, MAX_HEADS, KnownHeads, head_of
from limen.gateway.engine.message import Head
from limen.gateway.engine.routes import Route, Router

RAW = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"


def head(**change):
    fields = {"method": b"POST", "target": b"/v2/models/m/infer", "keep_alive": True} | change
    headers = {b"host": b"a", b"content-length": b"3"} | fields.pop("headers", {})
    found = Head(fields["method"], fields["target"], headers, keep_alive=fields["keep_alive"])
    found.route = fields.get("route", Route({}, "/v2/models/{m}/infer", "m"))
    return found


@pytest.fixture
def known():
    found = KnownHeads()
    found.remember(RAW, head())
    return found


def test_the_same_head_with_another_body_is_known(known):
    request = known.recall(RAW + b"xyz")
    assert (request.head.target, request.body) == (b"/v2/models/m/infer", b"xyz")


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_only_a_known_head_and_exactly_its_body_is_recalled(before, after):
    known = KnownHeads()
    known.remember(RAW, head())
    data = before + RAW + after
    assert (known.recall(data) is not None) == (before == b"" and len(after) == 3)


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_one_other_byte_is_another_head(place, change):
    known = KnownHeads()
    known.remember(RAW, head())
    other = RAW[:place] + bytes([RAW[place] ^ change]) + RAW[place + 1 :]
    assert known.recall(other + b"xyz") is None


@pytest.mark.parametrize(
    ("raw", "change"),
    [
        (RAW, {"keep_alive": False}),
        (RAW, {"headers": {b"expect": b"100-continue"}}),
        (RAW, {"route": Refused(404, "NOT_FOUND", "no")}),
        (b"\r\n\r\n", {}),
        (b"\r\n" + RAW, {}),
        (RAW.replace(b"POST", b"GET"), {}),
    ],
)
def test_what_must_be_parsed_every_time_is_not_remembered(raw, change):
    known = KnownHeads()
    known.remember(raw, head(**change))
    assert known.recall(raw + b"xyz") is None


def test_a_head_without_a_length_is_not_remembered():
    known = KnownHeads()
    chunked = head()
    del chunked.headers[b"content-length"]
    known.remember(RAW, chunked)
    assert known.recall(RAW) is None


def test_the_memory_is_bounded(known):
    for i in range(MAX_HEADS):
        raw = RAW.replace(b"host: a", b"host: %d" % i)
        known.remember(raw, head())
    assert known.recall(RAW + b"xyz") is None
    assert head_of(b"x" * MAX_HEAD + b"\r\n\r\n") == b""


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"", b""),
        (b"identity", b""),
        (b"gzip", b"gzip"),
        (b"deflate, gzip", b"gzip"),
        (b"gzip;q=0.5, deflate;q=0.8", b"deflate"),
        (b"gzip;q=0", b""),
        (b"*", b"gzip"),
        (b"br", b""),
        (b"gzip;q=x", b""),
    ],
)
def test_the_callers_weights_choose_the_encoding(accept, expected):
    assert choose(accept) == expected


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_b13_inflating_stops_at_the_limit(encoding):
    packed = deflate(bytes(1 << 20), encoding)
    assert bytes(Inflation([packed], encoding, 1 << 20).rest()) == bytes(1 << 20)
    with pytest.raises(Refused) as caught:
        Inflation([packed], encoding, (1 << 20) - 1).rest()
    assert caught.value.status == 413


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_what_is_large_once_it_is_inflated_is_left_for_later(encoding):
    whole = deflate(bytes(1 << 20), encoding)
    packed = Inflation([whole[i : i + 100] for i in range(0, len(whole), 100)], encoding, 1 << 20)
    assert packed.read(1 << 17) is None
    assert bytes(packed.rest()) == bytes(1 << 20)
    assert Inflation([deflate(b"small", encoding)], encoding, 1 << 20).read(1 << 17) == b"small"


@pytest.mark.parametrize(
    "target",
    [
        b"/v2/models/..%2f..%2fetc", b"/v2/models/%252e%252e", b"//v2", b"/v2//health/live", b"/v2/models/a%00b",
        b"/v2/models/m/infer/", b"/v2/models/m/infer//", b"/v1/models/m:predict:x", b"/v1/models/m/labels/7:predict",
        b"/v1/models/m@:predict", b"/v2/models/m@latest/infer",
    ],
)  # fmt: skip
def test_b21_one_path_has_one_spelling(target):
    handlers = {b"POST": lambda _: None}
    table = {"/v2/models/{m}/infer": handlers, "/v1/models/{m}:predict": handlers}
    router = Router({"/v2": handlers, "/v2/health/live": handlers}, table, lambda _: True)
    if target == b"/v2/models/m/infer/":
        assert router.resolve(target).model == "m"
        return
    with pytest.raises(Exception) as caught:  # noqa: PT011  either kind of refusal is one
        router.resolve(target)
    assert type(caught.value).__name__ in {"Refused", "InvalidArgument"}
