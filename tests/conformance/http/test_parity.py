"""REST and gRPC give the same outputs and the same errors for the same input (checklist 10)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from limen.contracts.errors import ErrorCode
from limen.contracts.tensors import BY_NAME, TYPES
from limen.gateway.engine.errors import STATUS as HTTP_STATUS
from limen.gateway.grpc._generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.grpc.server import GrpcServer
from limen.gateway.grpc.status import STATUS as GRPC_STATUS
from tests.conformance.bad_inputs.entries import LENGTH, elements, infer_raw
from tests.conformance.grpc.plane import raw_request
from tests.conformance.serving.gateway import Gateway

Tensor = tuple[str, str, list[int], bytes]


class Outcome(NamedTuple):
    """What a call came to: a status and a reason, or the outputs' bytes."""

    code: grpc.StatusCode
    reason: str
    paths: list[str]
    outputs: list[bytes]


@pytest.fixture(scope="module")
def stub(gateway: Gateway) -> Iterator[GRPCInferenceServiceStub]:
    """A gRPC server beside the HTTP one, on the same data plane."""
    server = gateway.do(lambda: GrpcServer(gateway.plane, GrpcConfig()))
    port = gateway.do(lambda: server.start("127.0.0.1", 0))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield GRPCInferenceServiceStub(channel)
    gateway.do(lambda: server.stop(0))


def over_rest(gateway: Gateway, model: str, tensors: list[Tensor]) -> Outcome:
    answer = infer_raw(gateway, model, *tensors, parameters={"binary_data_output": True})
    if answer.status == 200:
        return Outcome(grpc.StatusCode.OK, "", [], [answer.body[int(answer.headers[LENGTH]) :]])
    body = answer.json()
    codes = {code for code, status in HTTP_STATUS.items() if status == answer.status}
    ((code),) = codes
    return Outcome(GRPC_STATUS[code], body["code"], [d["path"] for d in body["details"]], [])


def over_grpc(stub: GRPCInferenceServiceStub, model: str, tensors: list[Tensor]) -> Outcome:
    request = raw_request(model, **{name: (datatype, shape, data) for name, datatype, shape, data in tensors})
    try:
        return Outcome(grpc.StatusCode.OK, "", [], [b"".join(stub.ModelInfer(request, timeout=60).raw_output_contents)])
    except grpc.RpcError as error:
        packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in status_pb2.Status.FromString(packed).details:
            for into in (info, bad):
                detail.Unpack(into)
        return Outcome(error.code(), info.reason, [v.field for v in bad.field_violations], [])


def floats(name: str, *values: float) -> Tensor:
    return name, "FP32", [1, len(values)], np.array(values, np.float32).tobytes()


A, B = floats("a", 1, 2), floats("b", 3, 4)


def told(say: str, score: float = 0.5) -> list[Tensor]:
    return [("say", "BYTES", [1], elements(say.encode())), ("score", "FP32", [1], np.float32(score).tobytes())]


CASES: dict[str, tuple[str, list[Tensor]]] = {
    "good": ("pair", [A, B]),
    "an input is missing": ("pair", [A]),
    "an input is too much": ("pair", [A, B, floats("c", 1)]),
    "another datatype": ("pair", [("a", "INT32", [1, 2], bytes(8)), B]),
    "another shape": ("pair", [floats("a", 1, 2, 3), B]),
    "different rows": ("pair", [A, ("b", "FP32", [2, 2], bytes(16))]),
    "no rows": ("pair", [("a", "FP32", [0, 2], b""), ("b", "FP32", [0, 2], b"")]),
    "too many rows": ("pair", [("a", "FP32", [65, 2], bytes(520)), ("b", "FP32", [65, 2], bytes(520))]),
    "not finite": ("pair", [floats("a", 1, float("nan")), B]),
    "too few bytes": ("pair", [("a", "FP32", [1, 2], bytes(7)), B]),
    "a truth value of 2": ("echo-bool", [("x", "BOOL", [1, 1], b"\2")]),
    "an element that runs past the end": ("echo-bytes", [("x", "BYTES", [1, 1], b"\xff\0\0\0ab")]),
    "text that is not UTF-8": ("echo-string", [("x", "BYTES", [1, 1], elements(b"\xff"))]),
    "an unknown model": ("nosuch", [A]),
    "a name that is none": ("PAIR", [A]),
    "a model that fails": ("moody", [("x", "FP32", [1], np.float32(-3).tobytes())]),
    "an answer that is not finite": ("moody", [("x", "FP32", [1], np.float32(-1).tobytes())]),
    "an answer that keeps its contract": ("promises", told("all is well")),
    "a label of an answer that is no label": ("promises", told("grade")),
    "a text of an answer that does not match": ("promises", told("pattern")),
    "a text of an answer that is too long": ("promises", told("length")),
    "a number of an answer beyond its limit": ("promises", told("chance", 1.5)),
    "a class of an answer that is no class": ("promises", told("class")),
    "a model that refuses": ("promises", told("refuse")),
    "a model that refuses the whole": ("promises", told("refuse all")),
    "a stream": ("countdown", [("n", "INT32", [1], bytes(4))]),
}


@pytest.mark.parametrize(("model", "tensors"), CASES.values(), ids=CASES)
def test_both_protocols_come_to_the_same(gateway: Gateway, stub: Any, model: str, tensors: list[Tensor]):
    rest, rpc = over_rest(gateway, model, tensors), over_grpc(stub, model, tensors)
    assert (rest.code, rest.reason, rest.outputs) == (rpc.code, rpc.reason, rpc.outputs)
    # Paths name the same tensor; where they begin is a matter of each protocol's own message.
    assert len(rest.paths) == len(rpc.paths)
    if model == "promises":
        said = tensors[0][3][4:].decode()
        expected = {"refuse": "REFUSED", "refuse all": "REFUSED", "all is well": ""}
        assert rest.reason == expected.get(said, "INVALID_OUTPUT")


@pytest.mark.parametrize("name", [t.name for t in TYPES])
def test_both_protocols_carry_every_datatype(gateway: Gateway, stub: Any, name: str):
    element = BY_NAME[name]
    texts = (b'{"a": [1]}', b"[]", b"0") if name == "json" else (b"a", b"", b"\0")
    content = bytes(element.size * 3) if element.size else elements(*texts)
    tensors: list[Tensor] = [("x", element.wire, [1, 3], content)]
    outcome = Outcome(grpc.StatusCode.OK, "", [], [content])
    assert over_rest(gateway, f"echo-{name}", tensors) == over_grpc(stub, f"echo-{name}", tensors) == outcome


def test_every_code_has_a_status_of_its_own_in_both_protocols():
    assert set(HTTP_STATUS) == set(GRPC_STATUS) == set(ErrorCode)
    # HTTP has one status for the two kinds of conflict.
    assert HTTP_STATUS[ErrorCode.ALREADY_EXISTS] == HTTP_STATUS[ErrorCode.FAILED_PRECONDITION]
    assert len(set(HTTP_STATUS.values())) == len(ErrorCode) - 1
