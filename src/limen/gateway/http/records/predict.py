"""The record API: named JSON fields in and out, in the dialect of TensorFlow Serving, KServe V1 and Vertex AI.

`POST /v1/models/{name}[/versions/{v}]:predict` with `{"instances": [{…}]}` gives `{"predictions": [{…}], "model_version": …}`.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Any, Final

import msgspec

from limen.contracts.errors import InvalidArgument
from limen.contracts.identity import LOCAL
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse
from limen.contracts.oip.parameters import NONE, read_parameters
from limen.contracts.oip.wire import check_element_sizes
from limen.contracts.validation.records import RecordCodec, Records
from limen.gateway.engine.errors import id_in
from limen.gateway.engine.message import Answer, Request, Response
from limen.gateway.engine.routes import Route, Table
from limen.gateway.http.aside import Aside, takes_large
from limen.gateway.http.later import Later
from limen.gateway.http.oip.infer import check_type, deadline_of
from limen.runtime.versions.fallback import MARK
from limen.runtime.versions.lifecycle import State
from limen.serving.dataplane.call import Call
from limen.serving.dataplane.plane import DataPlane
from limen.serving.dataplane.visit import Visit

PROTOCOL: Final = "record"
"""What requests of this dialect are counted as."""
ROWS_AT_ONCE: Final = 2048
"""Rows of an answer that are written in one step."""
_STATES: Final = {
    State.NEW: "START",
    State.LOADING: "LOADING",
    State.WARMING: "LOADING",
    State.READY: "AVAILABLE",
    State.DRAINING: "UNLOADING",
    State.UNLOADED: "END",
    State.FAILED: "END",
}
"""TensorFlow Serving's names of the states."""


class Predictions(msgspec.Struct, omit_defaults=True):
    """The answer of a predict call."""

    predictions: list[dict[str, Any]] | msgspec.Raw
    model_name: str
    model_version: str
    id: str = ""
    """The caller's id of the request, when it gave one in the body."""
    fallback: str = ""
    """`constant` or `version` when the declared fallback answered and not the model."""


class RecordApi:
    """The handlers of the `/v1/models` paths."""

    def __init__(self, plane: DataPlane, aside: Aside) -> None:
        """Answer from a data plane, and read what is large `aside`."""
        self._plane = plane
        self._directory = plane.directory
        self._aside = aside
        self._encode = msgspec.json.Encoder().encode

    def fixed_routes(self) -> Table:
        """Return the paths that name no model."""
        return {"/v1/models": {b"GET": self.models}}

    def model_routes(self) -> Table:
        """Return what may follow a model; the version part is understood."""
        return {
            "/v1/models/{m}": {b"GET": self.status},
            "/v1/models/{m}/metadata": {b"GET": self.metadata},
            "/v1/models/{m}:predict": {b"POST": self.predict},
        }

    def models(self, request: Request) -> Response:
        """List the models, ready or not (as KServe V1 does)."""
        return Response(self._encode({"models": list(self._directory.models())}))

    def status(self, request: Request) -> Response:
        """Give the state of a model's versions (as TensorFlow Serving does), and whether it can be used (as KServe V1 does)."""
        route: Route = request.head.route
        rows = [
            {
                "version": s.version,
                "state": _STATES[s.state],
                "status": _status(failed=s.state is State.FAILED),
            }
            for s in self._directory.statuses(route.model, route.version)
        ]
        ready = self._directory.is_model_ready(route.model, route.version)
        return Response(
            self._encode({"model_version_status": rows, "name": route.model.partition("@")[0], "ready": ready})
        )

    def metadata(self, request: Request) -> Response:
        """Give a model's name, version, platform and tensors."""
        route: Route = request.head.route
        meta = self._directory.model_metadata(route.model, route.version)
        return Response(self._encode(meta))

    @takes_large
    def predict(self, request: Request) -> Answer:
        """Answer rows of named fields."""
        started = perf_counter()
        head = request.head
        check_type(head)
        deadline = deadline_of(head)
        if request.is_large:
            return self._predict_large(request, deadline, started)
        with enter(self._plane, request, PROTOCOL, deadline, started) as visit:
            try:
                records = visit.handle.records.decode(request.body)
            except InvalidArgument:
                request.id = id_in(request.body) or request.id
                raise
            result = visit.start(record_request(request, visit, records))
        if isinstance(result, Call):
            return Later(result, partial(self.encode, visit=visit))
        return self.encode(result, visit)

    async def _predict_large(self, request: Request, deadline: Deadline, started: float) -> Response:
        """Answer a body that takes long to read."""
        with enter(self._plane, request, PROTOCOL, deadline, started) as visit:
            codec = visit.handle.records
            records = await self._aside.run(lambda: read_large(request, codec))
            response = await visit.infer(record_request(request, visit, records))
        # What takes long to read often takes long to write.
        return await self._aside.run(lambda: self.encode(response, visit))

    def encode(self, response: InferenceResponse, visit: Visit) -> Response:
        """Return the answer as rows of named fields, by the codec of the version that answered."""
        records = visit.handle.records
        outputs = response.outputs
        fallback = str(response.parameters.get(MARK, "")) if response.parameters else ""
        count = len(next(iter(outputs.values()), ()))
        if count <= ROWS_AT_ONCE:
            rows: Any = records.encode(outputs)
        else:
            # Some rows at a time, so that nobody has to wait for all of them.
            starts = range(0, count, ROWS_AT_ONCE)
            parts = ({name: array[i : i + ROWS_AT_ONCE] for name, array in outputs.items()} for i in starts)
            rows = msgspec.Raw(b"[%s]" % b",".join(self._encode(records.encode(part))[1:-1] for part in parts))
        predictions = Predictions(rows, response.model_name, response.model_version, response.id, fallback)
        answer = Response(self._encode(predictions))
        answer.version = response.model_version
        return answer


def enter(plane: DataPlane, request: Request, protocol: str, deadline: Deadline, started: float = 0.0) -> Visit:
    """Return the visit of a request whose body only the contract can read."""
    head = request.head
    route: Route = head.route
    return plane.enter(LOCAL, route.model, route.version, request.id, protocol, deadline, head.is_retry, started)


def record_request(request: Request, visit: Visit, records: Records) -> InferenceRequest:
    """Return what a record body asks for, and note in the visit what it says of itself."""
    inference = InferenceRequest(
        request.head.route.model, records.inputs, "", records.id, NONE, (), records.rows, visit.handle.check
    )
    if records.id:
        visit.id = request.id = records.id
    if records.parameters:
        inference.parameters, options = read_parameters(records.parameters)
        inference.priority, visit.deadline = options.priority, options.tighten(visit.deadline)
    return inference


def read_large(request: Request, codec: RecordCodec) -> Records:
    """Return what a large record body holds; not for the event loop."""
    records = codec.decode(request.take_body())
    check_element_sizes(records.inputs)
    return records


def _status(*, failed: bool) -> dict[str, str]:
    if failed:
        return {"error_code": "UNAVAILABLE", "error_message": "the version failed to load"}
    return {"error_code": "OK", "error_message": ""}
