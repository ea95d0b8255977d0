"""What a request may say besides its tensors, and what it may not."""

from typing import Any

import numpy as np
import pytest

from limen.contracts.names import REQUEST_ID
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.oip.codec import MAX_INPUTS
from tests.conformance.grpc.plane import raw_request, typed_request, with_parameters

ONE = ("FP32", [1], np.array([1], np.float32).tobytes())


async def test_metadata_says_what_the_data_plane_says(client):
    server = await client.stub.ServerMetadata(pb.ServerMetadataRequest())
    model = await client.stub.ModelMetadata(pb.ModelMetadataRequest(name="echo"))
    assert (server.name, server.version, list(server.extensions)) == (
        "limen",
        "1.2.3",
        ["classification", "parameters"],
    )
    assert (model.name, list(model.versions), model.platform) == ("echo", ["7"], "onnx_onnxv1")
    assert (model.inputs[0].name, model.inputs[0].datatype, list(model.inputs[0].shape)) == ("x", "FP32", [-1, 30])
    assert dict(model.properties) == {"owner": "risk"}


async def test_health_calls_say_what_the_data_plane_says(client, plane):
    plane.ready = False
    plane.unready = {"echo"}
    assert (await client.stub.ServerLive(pb.ServerLiveRequest())).live
    assert not (await client.stub.ServerReady(pb.ServerReadyRequest())).ready
    assert not (await client.stub.ModelReady(pb.ModelReadyRequest(name="echo"))).ready
    assert (await client.stub.ModelReady(pb.ModelReadyRequest(name="gated", version="7"))).ready


async def test_id_and_version_are_echoed(client):
    answer = await client.stub.ModelInfer(raw_request(request_id="A-1.b_c:2"))
    assert (answer.model_name, answer.model_version, answer.id) == ("echo", "7", "A-1.b_c:2")


@pytest.mark.parametrize(
    ("metadata", "message_id", "expected"),
    [
        (("x-request-id", "from-metadata"), "from-message", "from-metadata"),
        (("x-other", "1"), "from-message", "from-message"),
    ],
)
async def test_an_error_names_the_request(client, metadata, message_id, expected):
    refusal = await client.refusal(raw_request("nosuch", message_id), metadata=(metadata,))
    assert (refusal.code.name, refusal.trailers["x-request-id"]) == ("NOT_FOUND", expected)


@pytest.mark.parametrize(
    ("metadata", "message_id", "expected"),
    [((("x-request-id", "from-metadata"),), "", "from-metadata"), ((), "from-message", "from-message"), ((), "", None)],
)
async def test_an_answer_has_the_id_that_the_data_plane_knows(client, plane, metadata, message_id, expected):
    call = client.stub.ModelInfer(raw_request(request_id=message_id), metadata=metadata, timeout=60)
    answer = await call
    told = dict(await call.trailing_metadata())["x-request-id"]
    assert answer.id == message_id
    assert told == plane.entries[0]
    assert REQUEST_ID.fullmatch(told)
    assert expected in {None, told}


@pytest.mark.parametrize(
    "bad", ["a b", "x" * 129, "line\r\nbreak", "x" * 1_000_000], ids=["space", "long", "crlf", "1MB"]
)
async def test_b36_a_bad_id_is_refused_and_not_echoed(client, bad):
    refusal = await client.refusal(raw_request(request_id=bad))
    assert (refusal.code.name, refusal.reason, refusal.paths) == ("INVALID_ARGUMENT", "INVALID_ID", ["id"])
    made = refusal.trailers["x-request-id"]
    assert REQUEST_ID.fullmatch(made)
    assert made not in bad


async def test_parameters_of_all_kinds_reach_the_model_and_come_back(client, plane):
    sent: dict[str, tuple[str, object]] = {
        "flag": ("bool_param", True),
        "count": ("int64_param", -3),
        "text": ("string_param", "ä"),
        "ratio": ("double_param", 0.5),
        "large": ("uint64_param", 2**63),
    }
    answer = await client.stub.ModelInfer(with_parameters(raw_request(), **sent))
    assert dict(plane.requests[0].parameters) == {key: value for key, (_, value) in sent.items()}
    back = {key: answer.parameters[key] for key in answer.parameters}
    assert {k: (p.WhichOneof("parameter_choice"), getattr(p, sent[k][0])) for k, p in back.items()} == sent


async def test_parameters_of_the_protocol_do_not_reach_the_model(client, plane):
    own = {
        "timeout": ("int64_param", 0),
        "priority": ("uint64_param", 1),
        "sequence_id": ("string_param", ""),
        "sequence_start": ("bool_param", False),
        "binary_data_output": ("bool_param", True),
        "triton_enable_empty_final_response": ("bool_param", True),
    }
    await client.stub.ModelInfer(with_parameters(raw_request(), **own))
    assert dict(plane.requests[0].parameters) == {}


async def test_the_timeout_parameter_tightens_the_deadline(client, plane):
    await client.stub.ModelInfer(with_parameters(raw_request(), timeout=("uint64_param", 2_000_000)), timeout=60)
    await client.stub.ModelInfer(with_parameters(raw_request(), timeout=("uint64_param", 90_000_000)), timeout=30)
    await client.stub.ModelInfer(raw_request())
    first, second, third = plane.deadlines
    assert 0 < first.remaining_s() <= 2
    assert 2 < second.remaining_s() <= 31  # gRPC rounds up on the wire
    assert not third.is_set


PARAMETER_MISTAKES: dict[str, Any] = {
    "timeout as text": ({"timeout": ("string_param", "5")}, "INVALID_PARAMETER"),
    "timeout below zero": ({"timeout": ("int64_param", -1)}, "INVALID_PARAMETER"),
    "priority as flag": ({"priority": ("bool_param", True)}, "INVALID_PARAMETER"),
    "a sequence by number": ({"sequence_id": ("uint64_param", 5)}, "UNSUPPORTED"),
    "a sequence by name": ({"sequence_id": ("string_param", "s")}, "UNSUPPORTED"),
    "a sequence of wrong kind": ({"sequence_id": ("double_param", 5)}, "INVALID_PARAMETER"),
    "sequence start": ({"sequence_start": ("bool_param", True)}, "UNSUPPORTED"),
    "sequence end as number": ({"sequence_end": ("int64_param", 1)}, "INVALID_PARAMETER"),
    "headers": ({"headers": ("string_param", "x")}, "INVALID_PARAMETER"),
    "a key of the server": ({"triton_final_response": ("bool_param", True)}, "INVALID_PARAMETER"),
    "an unknown triton key": ({"triton_x": ("bool_param", True)}, "INVALID_PARAMETER"),
    "empty final as number": ({"triton_enable_empty_final_response": ("int64_param", 1)}, "INVALID_PARAMETER"),
    "not a number": ({"x": ("double_param", float("nan"))}, "INVALID_PARAMETER"),
    "too many": ({f"k{i}": ("bool_param", True) for i in range(65)}, "INVALID_PARAMETER"),
}


@pytest.mark.parametrize("case", PARAMETER_MISTAKES)
async def test_b37_reserved_and_wrong_parameters_are_refused(client, plane, case):
    parameters, reason = PARAMETER_MISTAKES[case]
    refusal = await client.refusal(with_parameters(raw_request(), **parameters))
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", reason)
    assert plane.requests == []


async def test_b37_a_parameter_without_a_value_is_refused(client):
    request = raw_request()
    request.parameters["empty"].SetInParent()
    assert (await client.refusal(request)).reason == "INVALID_PARAMETER"


@pytest.mark.parametrize("request_form", [raw_request(x=ONE), typed_request("FP32", [1])], ids=["raw", "without data"])
async def test_b38_shared_memory_is_refused_for_inputs(client, request_form):
    request = pb.ModelInferRequest()
    request.CopyFrom(request_form)
    request.inputs[0].parameters["shared_memory_region"].string_param = "region"
    assert (await client.refusal(request)).reason == "UNSUPPORTED"


async def test_b38_shared_memory_is_refused_for_outputs(client):
    request = raw_request()
    request.outputs.add(name="x").parameters["shared_memory_region"].string_param = "region"
    assert (await client.refusal(request)).reason == "UNSUPPORTED"


async def test_requested_outputs_and_classification_reach_the_data_plane(client, plane):
    request = raw_request(x=ONE, y=ONE)
    request.outputs.add(name="y").parameters["classification"].int64_param = 3
    answer = await client.stub.ModelInfer(request)
    assert [output.name for output in answer.outputs] == ["y"]
    assert [(o.name, o.classification) for o in plane.requests[0].outputs] == [("y", 3)]


@pytest.mark.parametrize(
    ("kind", "value"), [("int64_param", 0), ("int64_param", -1), ("bool_param", True), ("string_param", "3")]
)
async def test_classification_must_be_a_count(client, kind, value):
    request = raw_request()
    setattr(request.outputs.add(name="x").parameters["classification"], kind, value)
    refusal = await client.refusal(request)
    assert (refusal.reason, refusal.paths) == ("INVALID_PARAMETER", ["outputs[0].parameters.classification"])


async def test_b24_the_same_input_twice_is_refused(client):
    request = raw_request(x=ONE)
    request.MergeFrom(raw_request(x=ONE))
    assert (await client.refusal(request)).reason == "INPUT_SET"


async def test_b24_the_same_output_twice_is_refused(client):
    request = raw_request()
    request.outputs.add(name="x")
    request.outputs.add(name="x")
    assert (await client.refusal(request)).reason == "OUTPUT_SET"


@pytest.mark.parametrize(("count", "is_fine"), [(64, True), (65, False), (100_000, False)])
async def test_b25_at_most_64_outputs_may_be_asked_for(client, count, is_fine):
    tensors: dict[str, Any] = {f"x{i}": ONE for i in range(64)}
    request = raw_request(**tensors)
    for i in range(count):
        request.outputs.add(name=f"x{i}")
    if is_fine:
        assert len((await client.stub.ModelInfer(request)).outputs) == 64
    else:
        assert (await client.refusal(request)).reason == "OUTPUT_SET"


async def test_b25_a_flood_of_inputs_is_refused_before_it_is_read(client):
    request = pb.ModelInferRequest(model_name="echo", inputs=[{}] * (MAX_INPUTS + 1))
    assert (await client.refusal(request)).reason == "INPUT_SET"


async def test_b47_contents_beside_raw_contents_are_refused(client):
    request = raw_request(x=ONE, y=ONE)
    request.inputs[1].contents.fp32_contents.append(1)
    refusal = await client.refusal(request)
    assert (refusal.code.name, refusal.paths) == ("INVALID_ARGUMENT", ["inputs[1].contents"])


@pytest.mark.parametrize("entries", [1, 3])
async def test_b47_raw_contents_need_one_entry_per_input(client, entries):
    request = raw_request(x=ONE, y=ONE)
    request.raw_input_contents[:] = [ONE[2]] * entries
    refusal = await client.refusal(request)
    assert (refusal.code.name, refusal.paths) == ("INVALID_ARGUMENT", ["raw_input_contents"])
