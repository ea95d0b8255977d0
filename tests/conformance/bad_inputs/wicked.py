"""Large bodies that are wrong, or cost far more than they hold: path, body and headers by name. Each stands for a kind."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

from tests.conformance.bad_inputs.entries import LENGTH, OCTETS
from tests.conformance.serving.wire import JSON

SIZE = 16 << 20
PREDICT, INFER = "/v1/models/pair:predict", "/v2/models/pair/infer"
Case = tuple[str, bytes, Mapping[str, str]]


def filled(unit: bytes, size: int = SIZE) -> bytes:
    """Return as many units as there is room for."""
    return unit * (size // len(unit))


def _keys() -> bytes:
    return b",".join(b'"k%d":1' % i for i in range(SIZE // 12))


def _input(rest: bytes) -> bytes:
    return b'{"inputs":[{"name":"a","datatype":"FP32",' + rest + b"}]}"


def _json() -> Iterator[tuple[str, str, bytes]]:
    keys, ones = _keys(), filled(b"1,") + b"1"
    count = ones.count(b",") + 1
    rows = b'"instances":[{"a":[1,2],"b":[3,4]}]'
    yield "parameters by the million", PREDICT, b"{%s,%s{%s}}" % (rows, b'"parameters":', keys)
    yield "parameters of an infer", INFER, b'{"parameters":{%s},"inputs":[]}' % keys
    yield "unknown keys", PREDICT, b"{%s,%s}" % (keys, rows)
    yield "unknown keys of an infer", INFER, b'{%s,"inputs":[]}' % keys
    yield "unknown keys of a row", PREDICT, b'{"instances":[{%s}]}' % keys
    yield "unknown keys of an input", INFER, b'{"inputs":[{%s}]}' % keys
    yield "numbers without end", PREDICT, b'{"instances":[{"a":[%s],"b":[1,2]}]}' % ones
    yield "numbers for rows", PREDICT, b'{"instances":[%s]}' % ones
    yield "more numbers than the shape", INFER, _input(b'"shape":[1,2],"data":[%s]' % ones)
    yield "as many numbers as the shape", INFER, _input(b'"shape":[%d],"data":[%s]' % (count, ones))
    yield "one text among millions of numbers", INFER, _input(b'"shape":[%d],"data":[%s"1"]' % (count, ones[:-1]))
    yield "nested numbers", INFER, _input(b'"shape":[%d,1],"data":[%s[1]]' % (SIZE // 4 + 1, filled(b"[1],")))
    yield "texts", INFER, _input(b'"shape":[%d],"data":[%s""]' % (SIZE // 3 + 1, filled(b'"",')))
    yield "nulls", INFER, _input(b'"shape":[%d],"data":[%snull]' % (SIZE // 5 + 1, filled(b"null,")))
    yield "empty rows", PREDICT, b'{"instances":[%s{}]}' % filled(b"{},")
    yield "lists in a field", PREDICT, b'{"instances":[{"a":[%s[]],"b":[1,2]}]}' % filled(b"[],")
    yield "inputs", INFER, b'{"inputs":[%s{}]}' % filled(b'{"name":"a","shape":[1],"datatype":"FP32","data":[1]},')
    yield "outputs", INFER, b'{"inputs":[],"outputs":[%s{}]}' % filled(b'{"name":"y"},')
    yield "a shape", INFER, _input(b'"data":[1],"shape":[%s]' % ones)
    yield "lists in lists", INFER, filled(b"[")
    yield "objects in objects", PREDICT, filled(b'{"a":')
    yield "a long text", PREDICT, b'{"id":"%s",%s}' % (filled(b"x"), rows)
    yield "escapes", PREDICT, b'{"id":"%s",%s}' % (filled(b'\\"'), rows)
    yield "backslashes", PREDICT, b'{"id":"%s",%s}' % (filled(b"\\\\"), rows)
    yield "nothing but space", PREDICT, filled(b" ")
    yield "space in the middle", PREDICT, b"{%s%s}" % (filled(b" "), rows)
    yield "one key again and again", PREDICT, b"{%s%s}" % (filled(b'"instances":[],'), rows)
    yield "one number", PREDICT, b'{"instances":[{"a":[%s]}]}' % filled(b"1")
    yield "quotes", INFER, filled(b'"')
    yield "the end is missing", PREDICT, b'{"instances":[{"a":[%s' % ones


def _binary() -> Iterator[tuple[str, Case]]:
    for name, datatype, tail in (
        ("empty texts", "BYTES", bytes(SIZE)),
        ("texts of one byte", "BYTES", struct.pack("<I", 1).ljust(5, b"x") * (SIZE // 5)),
        ("flags", "BOOL", b"\x01" * SIZE),
        ("not numbers", "FP32", b"\xff" * SIZE),
    ):
        count = len(tail) // {"BYTES": 4 if not tail[0] else 5, "BOOL": 1, "FP32": 4}[datatype]
        text = b'{"inputs":[{"name":"a","shape":[%d],"datatype":"%s","parameters":{"binary_data_size":%d}}]}' % (
            count,
            datatype.encode(),
            len(tail),
        )
        yield f"binary {name}", (INFER, text + tail, {**OCTETS, LENGTH: str(len(text))})


def wicked() -> dict[str, Case]:
    """Return every case."""
    found: dict[str, Case] = {name: (path, body, JSON) for name, path, body in _json()}
    for name in ("unknown keys", "more numbers than the shape", "lists in lists", "nothing but space"):
        path, body, _ = found[name]
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        packed = packer.compress(body) + packer.flush()
        found[f"{name}, packed"] = path, packed, {**JSON, "content-encoding": "gzip"}
    return found | dict(_binary())
