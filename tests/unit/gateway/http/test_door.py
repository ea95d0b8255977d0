"""Every dialect over HTTP enters the data plane by one door, once, and answers with the contract of the version that answered."""

import asyncio
from typing import Any

import numpy as np
import pytest

from limen.contracts.contract import Field
from limen.contracts.errors import InvalidArgument, ModelFailed
from limen.contracts.inference import InferenceRequest, InferenceResponse
from limen.gateway.engine.message import Head, Pending, Request, Response, Streaming
from limen.gateway.http.app import HttpApplication
from limen.packaging.manifest.values import Fallback
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.plane import DataPlane
from limen.telemetry.logs import RequestLog
from tests.unit.runtime.fakes import FakePlacement, FakeSink, package

RECORD = b'{"instances": [{"x": 2}], "id": "from-body"}'
TENSOR = b'{"id": "from-body", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [2]}]}'
CALLS = {
    "record": (b"/v1/models/double:predict", RECORD, {}),
    "record stream": (b"/v1/models/double:stream", RECORD, {}),
    "generate": (b"/v2/models/double/generate", b'{"id": "from-body", "x": 2}', {}),
    "generate stream": (b"/v2/models/double/generate_stream", b'{"id": "from-body", "x": 2}', {}),
    "json": (b"/v2/models/double/infer", TENSOR, {}),
    "raw": (
        b"/v2/models/double/infer",
        np.array([2], np.float32).tobytes(),
        {b"inference-header-content-length": b"0", b"content-type": b"application/octet-stream"},
    ),
}


class CountingPlane(DataPlane):
    """Notes who comes in, and by which id."""

    entries: list[str]

    def enter(self, principal, endpoint, version, request_id, *rest, **named):
        self.entries.append(request_id)
        return super().enter(principal, endpoint, version, request_id, *rest, **named)


def both_names(request: InferenceRequest) -> InferenceResponse:
    """Answer as either version does; each contract takes its own output."""
    doubled = request.inputs["x"] * np.float32(2)
    return InferenceResponse(request.model_name, "1", {"y": doubled, "z": doubled})


@pytest.fixture
def placement() -> FakePlacement:
    placement = FakePlacement()
    placement.make = lambda: FakeSink(both_names)
    return placement


@pytest.fixture
async def plane(placement) -> CountingPlane:
    """Version 2 calls its output `z` and falls back to version 1, which calls it `y`."""
    versions = VersionManager(placement)
    second = package(
        digest="d2", outputs=(Field(name="z", type="float32"),), examples=(), fallback=Fallback(version="1")
    )
    versions.set_aspired("double", {"1": package(), "2": second}, ("2",))
    await versions.settle()
    plane = CountingPlane(versions)
    plane.entries = []
    return plane


async def ask(plane: DataPlane, target: bytes, body: bytes, headers: dict[bytes, bytes]) -> tuple[str, bytes]:
    """Return the request's id and the whole answer."""
    application = HttpApplication(plane, RequestLog())
    given = {b"host": b"localhost", b"content-type": b"application/json", b"x-request-id": b"from-head", **headers}
    head = Head(b"POST", target, given, keep_alive=True)
    application.admit(head)
    request = Request(head, body)
    answer: Any = application.handle(request)
    if isinstance(answer, Pending):
        answer = application.settle(request, await _delivered(answer))
    elif isinstance(answer, Streaming):
        pieces = [piece async for piece in answer.pieces]
        return request.id, b"".join(pieces)
    elif not isinstance(answer, Response):
        answer = await answer
    assert answer.status == 200, answer.body
    return request.id, answer.body


async def _delivered(pending: Pending) -> Any:
    told = asyncio.get_running_loop().create_future()
    if pending.early is not None:
        return pending.early
    pending.deliver = told.set_result
    return await told


@pytest.mark.parametrize("dialect", CALLS)
async def test_each_dialect_enters_once_and_leaves_no_lease(plane, dialect):
    called, body = await ask(plane, *CALLS[dialect])
    assert len(plane.entries) == 1
    assert b"4" in body or np.array([4], np.float32).tobytes() in body
    assert [s.leases for s in plane.versions.statuses("double")] == [0, 0]
    # What the contract is needed for is read after the door; JSON tensors name themselves before.
    assert plane.entries == ["from-body" if dialect == "json" else "from-head"]
    assert called == ("from-head" if dialect == "raw" else "from-body")


@pytest.mark.parametrize("dialect", CALLS)
async def test_after_a_fallback_the_answer_has_the_names_of_the_version_that_answered(plane, placement, dialect):
    placement.started["2"].answer = lambda _: ModelFailed()
    _, body = await ask(plane, *CALLS[dialect])
    assert b'"y"' in body
    assert b'"z"' not in body
    assert [s.leases for s in plane.versions.statuses("double")] == [0, 0]


@pytest.mark.parametrize("dialect", CALLS)
async def test_a_body_that_cannot_be_read_leaves_no_lease(plane, dialect):
    target, _, headers = CALLS[dialect]
    with pytest.raises((AssertionError, InvalidArgument)):
        await ask(plane, target, b"{", headers)
    assert [s.leases for s in plane.versions.statuses("double")] == [0, 0]


async def test_the_model_sees_the_id_that_the_caller_is_told(plane, placement):
    seen: list[InferenceRequest] = placement.started["2"].requests
    seen.clear()
    await ask(plane, b"/v1/models/double:predict", b'{"instances": [{"x": 2}]}', {})
    assert [r.log_id for r in seen] == ["from-head"]
