"""Files of B93: each begins as safetensors does, and is not what its header says."""

import json
import struct
from typing import Any

from tests.services.hugging_face import header


def tensor(begin: int, end: int, *, dtype: str = "F32", shape: Any = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def of_text(text: str, size: int = 8) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode() + bytes(size)


ONE = json.dumps(tensor(0, 8))
BROKEN = {
    "a header of 2^63 bytes": (
        struct.pack("<Q", 1 << 63) + header({"w": tensor(0, 8)})[8:] + bytes(8),
        "longer than the file",
    ),
    "a header longer than the file": (
        struct.pack("<Q", 4096) + header({"w": tensor(0, 8)})[8:] + bytes(8),
        "longer than the file",
    ),
    "no header": (struct.pack("<Q", 2) + b"{", "longer than the file"),
    "overlapping tensors": (header({"a": tensor(0, 8), "b": tensor(4, 12)}) + bytes(12), "overlap"),
    "one tensor twice": (header({"a": tensor(0, 8), "b": tensor(0, 8)}) + bytes(8), "overlap"),
    "a gap": (header({"a": tensor(0, 4), "b": tensor(8, 12)}) + bytes(12), "gaps"),
    "a gap in front": (header({"a": tensor(4, 8)}) + bytes(8), "gaps"),
    "a tensor before the file": (header({"a": tensor(-8, 0)}) + bytes(8), "lie outside"),
    "a tensor beyond the file": (header({"a": tensor(0, 4096)}) + bytes(8), "fill the file"),
    "bytes of no tensor": (header({"a": tensor(0, 4)}) + bytes(8), "fill the file"),
    "an end before its beginning": (header({"a": tensor(0, 8), "b": tensor(8, 4, shape=[1])}) + bytes(8), "size"),
    "a size that is not the shape's": (header({"a": tensor(0, 8, shape=[3])}) + bytes(8), "size"),
    "a shape beyond all memory": (header({"a": tensor(0, 8, shape=[1 << 62] * 32)}) + bytes(8), "size"),
    "a negative shape": (header({"a": tensor(0, 8, shape=[-1, -2])}) + bytes(8), "shape"),
    "a shape of fractions": (header({"a": tensor(0, 8, shape=[2.5])}) + bytes(8), "what the format says"),
    "a shape of 33 axes": (header({"a": tensor(0, 4, shape=[1] * 33)}) + bytes(4), "shape"),
    "an unknown type": (header({"a": tensor(0, 8, dtype="F128")}) + bytes(8), "type"),
    "half a byte": (header({"a": tensor(0, 1, dtype="F4", shape=[1])}) + bytes(1), "whole byte"),
    "a repeated name": (of_text(f'{{"w": {ONE}, "w": {ONE}}}'), "repeats a name"),
    "a repeated key": (
        of_text('{"w": {"dtype": "F64", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'),
        "repeats",
    ),
    "a key too many": (of_text(f'{{"w": {ONE[:-1]}, "more": 1}}}}'), "what the format says"),
    "a key too few": (of_text('{"w": {"dtype": "F32", "data_offsets": [0, 8]}}'), "what the format says"),
    "metadata that are no texts": (of_text(f'{{"__metadata__": {{"a": 1}}, "w": {ONE}}}'), "what the format says"),
    "a header that is deep": (of_text('{"w": ' + "[" * 100_000 + "]" * 100_000 + "}"), "what the format says"),
    "a header that is no JSON": (of_text('{"data_offsets": oh}'), "what the format says"),
    "a million tensors": (
        of_text(
            "{" + ",".join(f'"{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(500_000)) + "}", 0
        ),
        "more than 100000 tensors",
    ),
    "a header of 33 MiB": (of_text(f'{{"w": {ONE}}}' + " " * (33 << 20)), "longer than 33554432 bytes"),
}
"""Content, and a part of why it is refused. (A million tensors take more than the longest header; half of them show the limit.)"""
