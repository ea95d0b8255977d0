"""The codec against protobuf itself, and against anything a caller could send."""

import ml_dtypes
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.errors import Internal, InvalidArgument
from limen.contracts.inference import InferenceResponse
from limen.contracts.oip.wire import encode_raw
from limen.contracts.tensors import Array
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.oip.codec import decode_request, encode_part, encode_response, encode_stream_error

ARRAYS: list[Array] = [
    np.array([[0.5]], np.float32),
    np.zeros((3, 1000), np.float64),
    np.zeros((0, 4), np.int8),
    np.array(1.5, ml_dtypes.bfloat16),
    np.array([[True, False]]),
    np.array([["ä", "b"], ["", "d"]], object),
    np.array([b"\0", b""], object),
]


def by_protobuf(response: InferenceResponse) -> pb.ModelInferResponse:
    """Fill the message field by field, as the protocol says."""
    names = {
        "float32": "FP32",
        "float64": "FP64",
        "int8": "INT8",
        "bfloat16": "BF16",
        "bool": "BOOL",
        "object": "BYTES",
    }
    message = pb.ModelInferResponse(
        model_name=response.model_name, model_version=response.model_version, id=response.id
    )
    for name, array in response.outputs.items():
        message.outputs.add(name=name, datatype=names[array.dtype.name], shape=array.shape)
        message.raw_output_contents.append(encode_raw(array))
    return message


@given(
    outputs=st.dictionaries(st.text(min_size=1, max_size=200), st.sampled_from(ARRAYS), max_size=5),
    name=st.text(max_size=63),
    version=st.text("0123456789", max_size=18),
    request_id=st.text("abc", max_size=128),
)
def test_an_answer_put_together_from_bytes_is_the_one_protobuf_makes(outputs, name, version, request_id):
    response = InferenceResponse(name, version, outputs, request_id)
    assert pb.ModelInferResponse.FromString(encode_response(response)) == by_protobuf(response)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_152])
def test_lengths_around_the_steps_of_a_varint_are_right(size):
    response = InferenceResponse("m", "1", {"x": np.arange(size, dtype=np.int8)})
    assert pb.ModelInferResponse.FromString(encode_response(response)) == by_protobuf(response)


@pytest.mark.parametrize("is_final", [True, False])
def test_a_part_is_the_answer_and_its_flag(is_final):
    response = InferenceResponse("m", "1", {"x": ARRAYS[0]}, "id", {"k": 1})
    part = pb.ModelStreamInferResponse.FromString(encode_part(response, is_final=is_final, is_typed=False))
    expected = by_protobuf(response)
    expected.parameters["k"].int64_param = 1
    expected.parameters["triton_final_response"].bool_param = is_final
    assert part == pb.ModelStreamInferResponse(infer_response=expected)


def test_one_output_without_a_typed_form_makes_the_whole_answer_raw():
    response = InferenceResponse("m", "1", {"x": ARRAYS[0], "half": np.zeros(2, np.float16)})
    answer = pb.ModelInferResponse.FromString(encode_response(response, is_typed=True))
    assert [len(data) for data in answer.raw_output_contents] == [4, 4]
    assert not any(output.HasField("contents") for output in answer.outputs)


def test_an_answer_that_the_protocol_cannot_carry_is_our_fault():
    with pytest.raises(Internal):
        encode_response(InferenceResponse("m", "1", {"x": np.zeros(2, np.complex64)}))


def test_a_stream_error_names_its_request():
    error = pb.ModelStreamInferResponse.FromString(encode_stream_error("no", "id"))
    assert (error.error_message, error.infer_response.id) == ("no", "id")


@given(st.binary(max_size=300))
def test_b49_bytes_are_a_message_or_an_invalid_argument(data):
    try:
        message = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        return
    try:
        request, _ = decode_request(message)
    except InvalidArgument:
        return
    assert len(request.inputs) == len(message.inputs)


DATATYPES = ["BOOL", "INT8", "UINT16", "INT64", "FP16", "FP32", "FP64", "BYTES", "FP128", ""]
TENSORS = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.text(max_size=3),
    datatype=st.sampled_from(DATATYPES),
    shape=st.lists(st.integers(-1, 3) | st.integers(-(2**63), 2**63 - 1), max_size=3),
    contents=st.none()
    | st.builds(
        pb.InferTensorContents,
        int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
        fp32_contents=st.lists(st.floats(width=32), max_size=4),
        bytes_contents=st.lists(st.binary(max_size=4), max_size=4),
    ),
)


@given(st.lists(TENSORS, max_size=3), st.lists(st.binary(max_size=16), max_size=3))
def test_b47_tensors_are_read_whole_or_refused(tensors, raw):
    message = pb.ModelInferRequest(model_name="m", inputs=tensors, raw_input_contents=raw)
    try:
        request, options = decode_request(message)
    except InvalidArgument:
        return
    assert [list(array.shape) for array in request.inputs.values()] == [list(tensor.shape) for tensor in tensors]
    assert options.is_typed is not bool(raw)
