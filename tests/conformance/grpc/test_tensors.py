"""Every datatype, in both forms, there and back; and what is not a tensor."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from limen.gateway.grpc.oip.codec import CONTENTS
from tests.conformance.grpc.plane import raw_request, typed_request

EDGES = {
    "BOOL": np.array([[True, False]]),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-32768, 32767]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "FP16": np.array([[1.5, -65504]], np.float16),
    "BF16": np.array([[1.5, -2.0]], ml_dtypes.bfloat16),
    "FP32": np.array([[1.5, 3.4e38]], np.float32),
    "FP64": np.array([[1.5, 1.7e308]], np.float64),
}
WORDS = [b"", "größe\0".encode()]
RAW_WORDS = b"".join(len(word).to_bytes(4, "little") + word for word in WORDS)


@pytest.mark.parametrize("datatype", EDGES)
async def test_raw_values_come_back_as_they_were(client, plane, datatype):
    array = EDGES[datatype]
    answer = await client.stub.ModelInfer(raw_request(x=(datatype, [1, 2], array.tobytes())))
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == (datatype, [1, 2])
    assert list(answer.raw_output_contents) == [array.tobytes()]
    assert not answer.outputs[0].HasField("contents")
    seen = plane.requests[0].inputs["x"]
    assert seen.dtype == array.dtype
    assert seen.tolist() == array.tolist()


async def test_raw_bytes_come_back_as_they_were(client, plane):
    answer = await client.stub.ModelInfer(raw_request(x=("BYTES", [2, 1], RAW_WORDS)))
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("BYTES", [2, 1])
    assert list(answer.raw_output_contents) == [RAW_WORDS]
    assert plane.requests[0].inputs["x"].tolist() == [[word] for word in WORDS]


@pytest.mark.parametrize("datatype", [d for d in EDGES if d in CONTENTS])
async def test_typed_values_come_back_typed(client, plane, datatype):
    array = EDGES[datatype]
    contents: dict[str, Any] = {CONTENTS[datatype]: array.ravel().tolist()}
    answer = await client.stub.ModelInfer(typed_request(datatype, [1, 2], **contents))
    output = answer.outputs[0]
    assert (output.datatype, list(output.shape)) == (datatype, [1, 2])
    assert list(getattr(output.contents, CONTENTS[datatype])) == array.ravel().tolist()
    assert list(answer.raw_output_contents) == []
    assert plane.requests[0].inputs["x"].dtype == array.dtype


async def test_typed_bytes_come_back_typed(client):
    answer = await client.stub.ModelInfer(typed_request("BYTES", [2], bytes_contents=WORDS))
    assert list(answer.outputs[0].contents.bytes_contents) == WORDS


@pytest.mark.parametrize(
    ("shape", "count"), [([0, 30], 0), ([], 1), ([1] * 32, 1), ([2, 3, 4], 24)], ids=["empty", "scalar", "32-d", "3-d"]
)
async def test_any_shape_is_carried_in_both_forms(client, shape, count):
    values = np.arange(count, dtype=np.float32)
    raw = await client.stub.ModelInfer(raw_request(x=("FP32", shape, values.tobytes())))
    typed = await client.stub.ModelInfer(typed_request("FP32", shape, fp32_contents=values.tolist()))
    assert list(raw.outputs[0].shape) == list(typed.outputs[0].shape) == shape
    assert raw.raw_output_contents[0] == values.tobytes()
    assert list(typed.outputs[0].contents.fp32_contents) == values.tolist()


RAW_MISTAKES: dict[str, Any] = {
    "B26 unknown datatype": (("FP128", [1], b"1234"), "DTYPE"),
    "B26 empty datatype": (("", [1], b"1234"), "DTYPE"),
    "B27 too few bytes": (("FP32", [2], b"1234"), "DATA_SIZE"),
    "B27 too many bytes": (("FP32", [1], b"12345678"), "DATA_SIZE"),
    "B28 negative dimension": (("FP32", [-1], b"1234"), "SHAPE_MISMATCH"),
    "B29 product wraps around": (("FP32", [16, 2**60 + 2], b"1234"), "SHAPE_OVERFLOW"),
    "B29 product wraps to the size sent": (("FP32", [4, 2**60 + 2], b"1" * 32), "SHAPE_OVERFLOW"),
    "B29 33 dimensions": (("FP32", [1] * 33, b"1234"), "SHAPE_OVERFLOW"),
    "B30 absurd behind a zero": (("FP32", [0, 2**40], b""), "SHAPE_OVERFLOW"),
    "B31 bool of 2": (("BOOL", [1], b"\2"), "VALUE"),
    "B41 element past the end": (("BYTES", [1], b"\5\0\0\0four"), "DATA_SIZE"),
    "B41 element of 4 GiB": (("BYTES", [1], b"\xff\xff\xff\xff1234"), "DATA_SIZE"),
    "B41 bytes left over": (("BYTES", [1], b"\4\0\0\0fours"), "DATA_SIZE"),
    "B42 seven bytes of FP32": (("FP32", [1], b"1234567"), "DATA_SIZE"),
}


@pytest.mark.parametrize("case", RAW_MISTAKES)
async def test_a_raw_tensor_that_is_none_is_refused(client, plane, case):
    tensor, reason = RAW_MISTAKES[case]
    refusal = await client.refusal(raw_request(x=tensor))
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", reason)
    assert refusal.paths[0].startswith("inputs[0]")
    assert plane.requests == []


TYPED_MISTAKES: dict[str, Any] = {
    "B27 too few values": (("FP32", [3], {"fp32_contents": [1, 2]}), "DATA_SIZE"),
    "B27 no values": (("FP32", [1], {}), "DATA_SIZE"),
    "B29 a tensor of 2^62": (("FP32", [2**31, 2**31], {"fp32_contents": [1]}), "SHAPE_OVERFLOW"),
    "B31 INT8 of 300": (("INT8", [1], {"int_contents": [300]}), "NUMBER_RANGE"),
    "B31 INT8 of -129": (("INT8", [1], {"int_contents": [-129]}), "NUMBER_RANGE"),
    "B31 INT16 of 2^15": (("INT16", [1], {"int_contents": [2**15]}), "NUMBER_RANGE"),
    "B31 UINT8 of 256": (("UINT8", [1], {"uint_contents": [256]}), "NUMBER_RANGE"),
    "B31 UINT16 of 2^16": (("UINT16", [1], {"uint_contents": [2**16]}), "NUMBER_RANGE"),
    "B31 UINT8 as signed": (("UINT8", [1], {"int_contents": [-1]}), "DTYPE"),
    "B35 FP16 typed": (("FP16", [1], {"fp32_contents": [1]}), "DTYPE"),
    "B35 BF16 typed": (("BF16", [1], {"fp32_contents": [1]}), "DTYPE"),
    "B26 values of another type": (("FP32", [1], {"fp64_contents": [1]}), "DTYPE"),
    "B26 values of two types": (("FP32", [1], {"fp32_contents": [1], "fp64_contents": [1]}), "DTYPE"),
}


@pytest.mark.parametrize("case", TYPED_MISTAKES)
async def test_a_typed_tensor_that_is_none_is_refused(client, plane, case):
    (datatype, shape, contents), reason = TYPED_MISTAKES[case]
    refusal = await client.refusal(typed_request(datatype, shape, **contents))
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", reason)
    assert "300" not in refusal.text
    assert plane.requests == []
