"""What a large message holds is counted before it is parsed."""

import os

import pytest

from limen.contracts.errors import InvalidArgument, Reason
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.oip.large_messages import count_fields

MIB = 1 << 20


def contents(field: int, data: bytes) -> bytes:
    """Return a request with one input whose contents are this field."""
    inner = _field(field, data)
    return _field(5, _field(5, inner))


def _field(number: int, data: bytes) -> bytes:
    size, head = len(data), bytearray([number << 3 | 2])
    while size >= 128:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + data


WICKED = {
    "empty inputs": b"\x2a\x00" * (8 * MIB),
    "empty parameters": b"\x22\x00" * (8 * MIB),
    "empty raw contents": b"\x3a\x00" * (8 * MIB),
    "empty texts": _field(5, _field(5, b"\x42\x00" * (8 * MIB))),
    "numbers of one byte": contents(3, b"\x01" * (16 * MIB)),
    "numbers that are not packed": _field(5, _field(5, b"\x10\x01" * (8 * MIB))),
}


@pytest.mark.parametrize("data", WICKED.values(), ids=WICKED)
async def test_more_than_a_request_may_have_is_refused_before_it_is_parsed(data):
    with pytest.raises(InvalidArgument) as caught:
        await count_fields(data)
    assert caught.value.reason is Reason.TOO_MANY_PARTS


async def test_large_requests_as_they_are_sent_pass():
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(16 * MIB)])
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 1 << 20])
    tensor.contents.fp32_contents.extend([0.5] * (1 << 20))
    tensor = request.inputs.add(name="y", datatype="BYTES", shape=[100_000])
    tensor.contents.bytes_contents.extend([b"text"] * 100_000)
    await count_fields(request.SerializeToString())


async def test_what_is_malformed_is_left_to_the_parser():
    for data in (b"\xff" * 1000, b"\x2a\xff\xff\xff\x0f", os.urandom(10_000), b"\x07"):
        await count_fields(data)
