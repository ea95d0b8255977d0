"""Open Inference Protocol over REST: health, metadata and inference.

Source: kserve/open-inference-protocol (REST) with Triton's binary tensor data, classification and parameters extensions.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Any, Final

import msgspec

from limen.contracts.contract import Contract
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.identity import LOCAL
from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest, InferenceResponse
from limen.contracts.oip.parameters import PLAIN, RAW, Options
from limen.contracts.oip.wire import decode_raw
from limen.contracts.strict.pieces import Text
from limen.gateway.engine.errors import Refused, id_in
from limen.gateway.engine.message import Answer, Head, Request, Response
from limen.gateway.engine.routes import Route, Table
from limen.gateway.http.aside import Aside, takes_large
from limen.gateway.http.later import Later
from limen.gateway.http.oip.answers import encode_json, encode_mixed
from limen.gateway.http.oip.tensors import decode_infer
from limen.serving.dataplane.call import Call
from limen.serving.dataplane.plane import DataPlane
from limen.serving.dataplane.visit import Visit

MAX_TIMEOUT_MS: Final = 1e9
PROTOCOL: Final = "rest"
"""What requests of this dialect are counted as."""
_JSON_TYPES: Final = frozenset({b"application/json", None})
SETTING_TYPES: Final = _JSON_TYPES | {b"text/plain", b"application/octet-stream"}
"""What JSON of the management extensions comes as: Triton's asynchronous client says text, and octets of a body that is empty."""
_ALL_TYPES: Final = frozenset({b"application/json", b"application/octet-stream", None})


class OipApi:
    """The handlers of the OIP REST paths."""

    def __init__(self, plane: DataPlane, aside: Aside) -> None:
        """Answer from a data plane, and read what is large `aside`."""
        self._plane = plane
        self._directory = plane.directory
        self._aside = aside

    def fixed_routes(self) -> Table:
        """Return the paths that name no model."""
        return {
            "/v2": {b"GET": self.server_metadata},
            "/v2/health/live": {b"GET": self.live},
            "/v2/health/ready": {b"GET": self.ready},
            "/v2/models": {b"GET": self.models},
        }

    def model_routes(self) -> Table:
        """Return what may follow a model; the version part is understood."""
        return {
            "/v2/models/{m}": {b"GET": self.model_metadata},
            "/v2/models/{m}/config": {b"GET": self.model_config},
            "/v2/models/{m}/ready": {b"GET": self.model_ready},
            "/v2/models/{m}/infer": {b"POST": self.infer},
        }

    def live(self, request: Request) -> Response:
        """Say that the process works."""
        return _json({"live": self._directory.is_live()})

    def ready(self, request: Request) -> Response:
        """Say whether every model can be used; 503 while one cannot."""
        ready = self._directory.is_ready()
        return _json({"ready": ready, "live": True}, 200 if ready else 503)

    def models(self, request: Request) -> Response:
        """List the models, ready or not (as KServe does)."""
        return _json({"models": list(self._directory.models())})

    def server_metadata(self, request: Request) -> Response:
        """Give the server's name, version and extensions."""
        return _json(self._directory.server_metadata())

    def model_metadata(self, request: Request) -> Response:
        """Give a model's versions, platform and tensors."""
        route: Route = request.head.route
        return _json(self._directory.model_metadata(route.model, route.version))

    def model_config(self, request: Request) -> Response:
        """Say how a model is run."""
        route: Route = request.head.route
        return _json(self._directory.model_config(route.model, route.version))

    def model_ready(self, request: Request) -> Response:
        """Say whether a model can be used; 503 while it cannot."""
        route: Route = request.head.route
        ready = self._directory.is_model_ready(route.model, route.version)
        return _json({"name": route.model, "ready": ready}, 200 if ready else 503)

    @takes_large
    def infer(self, request: Request) -> Answer:
        """Answer an inference request in JSON, in binary, or in a mix of both."""
        started = perf_counter()
        head = request.head
        check_type(head, _ALL_TYPES)
        deadline = deadline_of(head)
        if request.is_large:
            return self._infer_large(request, deadline, started)
        route: Route = head.route
        if head.json_length == 0:
            with self._enter(request, deadline, started) as visit:
                inference, options = _raw(visit.contract, route, request.body), RAW
                result = visit.start(inference)
        else:
            # The body says which version is meant and by which id it is drawn; reading it takes no contract and tells nothing of any.
            try:
                inference, options = _decode(head, request.body)
            except InvalidArgument:
                request.id = id_in(request.body[: head.json_length]) or request.id
                raise
            _identify(request, inference, options)
            visit = self._plane.enter(
                LOCAL,
                route.model,
                inference.model_version or route.version,
                request.id,
                PROTOCOL,
                deadline if options is PLAIN else options.tighten(deadline),
                head.is_retry,
                started,
            )
            result = visit.start(inference)
        if isinstance(result, Call):
            return Later(result, partial(_encode, inference=inference, binary=options.is_binary))
        return _encode(result, inference, binary=options.is_binary)

    async def _infer_large(self, request: Request, deadline: Deadline, started: float) -> Response:
        """Answer a body that takes long to read."""
        head = request.head
        with self._enter(request, deadline, started) as visit:

            def read() -> tuple[InferenceRequest, Options]:
                body, contract = request.take_body(), visit.contract
                is_raw = head.json_length == 0
                inference, options = (_raw(contract, head.route, body), RAW) if is_raw else _decode(head, body)
                _identify(request, inference, options)
                visit.id, visit.deadline = request.id, options.tighten(visit.deadline)
                visit.hold(inference)
                return inference, options

            try:
                inference, options = await self._aside.run(read)
            except InvalidArgument as exc:
                request.id = exc.request_id or request.id
                raise
            response = await visit.infer(inference)
        # What takes long to read often takes long to write.
        return await self._aside.run(lambda: _encode(response, inference, binary=options.is_binary))

    def _enter(self, request: Request, deadline: Deadline, started: float) -> Visit:
        """Return the visit of a request that is entered before its body is read."""
        head = request.head
        route: Route = head.route
        return self._plane.enter(
            LOCAL, route.model, route.version, request.id, PROTOCOL, deadline, head.is_retry, started
        )


def _identify(request: Request, inference: InferenceRequest, options: Options) -> None:
    """Take over what a request says of itself."""
    model: str = request.head.route.model
    if inference.model_name and inference.model_name != model:
        raise InvalidArgument.at("model_name", "is not the model in the path", Reason.INVALID_NAME)
    inference.model_name = model
    if inference.id:
        request.id = inference.id
    if options is not PLAIN:
        inference.priority = options.priority


def _decode(head: Head, body: Text) -> tuple[InferenceRequest, Options]:
    json_bytes = head.json_length
    if json_bytes is None or 0 < json_bytes <= len(body):
        return decode_infer(body, json_bytes)
    limit = f"must be a whole number from 0 to the body's length ({len(body)})"
    raise InvalidArgument.at("Inference-Header-Content-Length", limit, Reason.INVALID_HEADER)


def _raw(contract: Contract, route: Route, body: Text) -> InferenceRequest:
    """Return the request of a raw binary body: the bytes of the model's only input, as one row. It is answered in binary.

    Source: Triton, "raw binary request": one input with at most one variable dimension; BYTES takes the body as its one
    element.
    """
    fields = contract.inputs
    if len(fields) != 1 or sum(d < 0 for d in fields[0].shape) > 1:
        text = "a raw binary request needs a model with one input that has at most one variable dimension"
        raise InvalidArgument(text, reason=Reason.UNSUPPORTED)
    field, batch = fields[0], (1,) if contract.batching.is_batched else ()
    if not field.element.size:
        if any(d != 1 for d in field.shape):
            text = "a raw binary request is one BYTES element; this model's input does not have the shape [1]"
            raise InvalidArgument(text, reason=Reason.UNSUPPORTED)
        one = len(body).to_bytes(4, "little") + body
        only = decode_raw(field.element, (*batch, *field.shape), one, field.wire_name)
        return InferenceRequest(route.model, {field.wire_name: only})
    known = field.element.size
    for dimension in field.shape:
        known *= max(dimension, 1)
    shape = (*batch, *(len(body) // known if d < 0 else d for d in field.shape))
    tensor = decode_raw(field.element, shape, body, field.wire_name)
    return InferenceRequest(route.model, {field.wire_name: tensor})


def deadline_of(head: Head) -> Deadline:
    """Return the deadline the caller gives in `X-Request-Timeout-Ms` (milliseconds); none when it gives none."""
    timeout = head.timeout
    if timeout is None:
        return NO_DEADLINE
    if not timeout.isdigit() or len(timeout) > 12 or not 0 < int(timeout) <= MAX_TIMEOUT_MS:
        rule = "must be a whole number of milliseconds from 1"
        raise InvalidArgument.at("X-Request-Timeout-Ms", rule, Reason.INVALID_HEADER)
    return Deadline.after(int(timeout) / 1000)


def check_type(head: Head, allowed: frozenset[bytes | None] = _JSON_TYPES) -> None:
    """Refuse a body that says it is something other than what is read here: the caller never chooses a decoder.

    No Content-Type at all is taken as the protocol's own format, because Triton's client sends none.
    """
    if head.media_type not in allowed:
        names = " or ".join(sorted(t.decode() for t in allowed if t))
        raise Refused(415, "UNSUPPORTED_TYPE", f"the content type must be {names}")


def _encode(response: InferenceResponse, inference: InferenceRequest, *, binary: bool) -> Response:
    response.id = inference.id
    is_mixed = bool(binary or inference.outputs)
    answer = encode_mixed(response, inference.outputs, binary=binary) if is_mixed else Response(encode_json(response))
    answer.version = response.model_version
    return answer


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status=status)
