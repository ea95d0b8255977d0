"""The one place where an exception becomes something a caller sees; and the deadline a call brings."""

import base64
import math
import sys
from typing import Any, cast

import grpc
import numpy as np
import pytest

from limen.contracts.errors import ErrorCode, InvalidArgument, Unavailable, Violation
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.calls import Calls
from limen.gateway.grpc.messages import deadline_of
from limen.gateway.grpc.oip.service import InferenceService
from limen.gateway.grpc.status import STATUS, Context, failure
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.plane import DataPlane
from tests.unit.runtime.fakes import FakePlacement


class CallContext:
    """The part of a call's context that handlers use, with a given time to its deadline."""

    def __init__(self, remaining_s: float | None) -> None:
        self.remaining_s = remaining_s
        self.code: grpc.StatusCode | None = None

    def time_remaining(self) -> float | None:
        return self.remaining_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self.trailers = dict(metadata)

    async def abort(self, code, details, trailing_metadata):
        self.code = code
        raise grpc.aio.AbortError


def context_with(remaining_s: float | None) -> Any:
    return cast("Context", CallContext(remaining_s))


class UnreachedPlane(DataPlane):
    """A data plane that must not be asked."""

    def __init__(self) -> None:
        super().__init__(VersionManager(FakePlacement()))
        self.entered: list[str] = []

    def enter(self, principal, endpoint, *rest, **named):
        self.entered.append(endpoint)
        raise Unavailable


def test_every_error_code_has_a_status_of_its_own():
    assert set(STATUS) == set(ErrorCode)
    assert len(set(STATUS.values())) == len(STATUS)
    assert grpc.StatusCode.UNKNOWN not in STATUS.values()


def test_an_error_with_a_thousand_mistakes_still_fits_into_a_trailer():
    violations = [Violation(f"inputs[{i}]" + "x" * 1000, "must be shorter " * 100) for i in range(1000)]
    failed = failure(InvalidArgument("x" * 100_000, violations=violations), "id")
    trailers: dict[str, Any] = dict(failed.metadata)
    encoded = base64.b64encode(trailers["grpc-status-details-bin"])
    assert len(failed.text) + len(trailers["x-request-id"]) + len(encoded) + 100 < 8192


def test_a_request_id_that_could_break_a_header_is_replaced():
    assert dict(failure(Unavailable(), "a\r\nb").metadata)["x-request-id"] != "a\r\nb"


@pytest.mark.parametrize("remaining", [None, float(sys.maxsize), math.inf])
def test_a_call_without_a_deadline_has_none(remaining):
    assert not deadline_of(context_with(remaining)).is_set


@pytest.mark.parametrize(
    ("remaining", "timeout", "most"), [(10, math.inf, 10), (10, 2, 2), (2, 10, 2), (None, 3, 3), (1e9, math.inf, 3600)]
)
def test_the_earlier_limit_counts_and_an_hour_is_the_longest(remaining, timeout, most):
    assert most - 1 < deadline_of(context_with(remaining), timeout).remaining_s() <= most


@pytest.mark.parametrize("remaining", [0.0, -1.0])
async def test_b52_a_call_that_arrives_too_late_does_not_reach_the_model(remaining):
    plane, context = UnreachedPlane(), context_with(remaining)
    request = pb.ModelInferRequest(model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": [1]}])
    request.raw_input_contents.append(np.array([1], np.float32).tobytes())
    with pytest.raises(grpc.aio.AbortError):
        await InferenceService(plane, Calls(), 1).model_infer(request.SerializeToString(), context)
    assert context.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert plane.entered == []
