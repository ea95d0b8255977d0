"""Streamed answers over HTTP: `:stream` of the record API, and Triton's `generate` and `generate_stream`.

Parts travel as server-sent events. A model that does not stream gives one part. The request is read and judged when the first
part is asked for, in one go with the call of the data plane, so that no version can be switched in between.
Source: Triton's generate extension, and `generate_rest.yaml` of the Open Inference Protocol.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from math import prod
from typing import Final, NamedTuple

import msgspec

from limen.contracts.contract import Contract, Field, Json
from limen.contracts.errors import MAX_VIOLATIONS, InvalidArgument, Reason, Unsupported, Violation
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Parameter
from limen.contracts.names import parse_request_id, shown
from limen.contracts.oip.wire import check_element_sizes
from limen.contracts.strict import json as strict_json
from limen.gateway.engine.errors import Refused, id_in, too_large
from limen.gateway.engine.message import Answer, Request, Response, Streaming
from limen.gateway.engine.routes import Table
from limen.gateway.http.aside import Aside, takes_large
from limen.gateway.http.oip.infer import PROTOCOL as REST
from limen.gateway.http.oip.infer import check_type, deadline_of
from limen.gateway.http.records.predict import PROTOCOL as RECORD
from limen.gateway.http.records.predict import enter, read_large, record_request
from limen.runtime.versions.fallback import MARK
from limen.runtime.versions.handle import VersionHandle
from limen.serving.dataplane.plane import DataPlane
from limen.serving.dataplane.visit import Visit

EVENTS: Final = b"text/event-stream; charset=utf-8"
_HEAD: Final = b"cache-control: no-store\r\nx-accel-buffering: no\r\n"
"""An event is of use only when it comes: nothing in between may keep it."""
_END: Final = b"event: end\ndata: {}\n\n"
MAX_GENERATE_BYTES: Final = 1 << 20
"""A generate body is text and a few numbers; more of them go to `predict` or `infer`."""
_ROW: Final = "instances[0]"
_encode: Final = msgspec.json.Encoder().encode


class _Generate(NamedTuple):
    """What a generate body says."""

    id: str
    record: dict[str, Json]
    parameters: dict[str, Parameter]


class StreamApi:
    """The handlers of the streaming paths."""

    def __init__(self, plane: DataPlane, aside: Aside) -> None:
        """Answer from a data plane, and read what is large `aside`."""
        self._plane = plane
        self._aside = aside

    def model_routes(self) -> Table:
        """Return what may follow a model; the version part is understood."""
        return {
            "/v1/models/{m}:stream": {b"POST": self.stream},
            "/v2/models/{m}/generate": {b"POST": self.generate},
            "/v2/models/{m}/generate_stream": {b"POST": self.generate_stream},
        }

    @takes_large
    def stream(self, request: Request) -> Answer:
        """Answer rows of named fields in as many parts as the model gives, and say when there are no more."""
        check_type(request.head)
        return Streaming(self._record_events(request, deadline_of(request.head)), EVENTS, 200, _HEAD, _named_error)

    @takes_large
    def generate(self, request: Request) -> Answer:
        """Answer named inputs with the one part that the model gives."""
        _check_generate(request)
        return self._only_part(request, deadline_of(request.head))

    @takes_large
    def generate_stream(self, request: Request) -> Answer:
        """Answer named inputs in as many parts as the model gives."""
        _check_generate(request)
        return Streaming(self._generate_events(request, deadline_of(request.head)), EVENTS, 200, _HEAD, _plain_error)

    async def _record_events(self, request: Request, deadline: Deadline) -> AsyncGenerator[bytes, None]:
        with enter(self._plane, request, RECORD, deadline) as visit:
            inference = await self._read_records(request, visit)
            async with aclosing(_parts(visit, inference)) as parts:
                async for response in parts:
                    rows = visit.handle.records.encode(response.outputs)
                    mark = {"fallback": response.parameters[MARK]} if MARK in response.parameters else {}
                    yield _event({"predictions": rows, "model_version": response.model_version, **mark})
        yield _END

    async def _generate_events(self, request: Request, deadline: Deadline) -> AsyncGenerator[bytes, None]:
        with enter(self._plane, request, REST, deadline) as visit:
            inference = await self._read_generate(request, visit)
            async with aclosing(_parts(visit, inference)) as parts:
                async for response in parts:
                    yield _event(_generated(response, inference.id, visit.handle))

    async def _only_part(self, request: Request, deadline: Deadline) -> Response:
        found: list[dict[str, Json]] = []
        with enter(self._plane, request, REST, deadline) as visit:
            inference = await self._read_generate(request, visit)
            async with aclosing(_parts(visit, inference)) as parts:
                async for response in parts:
                    found.append(_generated(response, inference.id, visit.handle))
                    if len(found) > 1:
                        break
        if len(found) != 1:
            raise Unsupported("this model does not give exactly one answer; use generate_stream")
        return Response(_encode(found[0]))

    async def _read_records(self, request: Request, visit: Visit) -> InferenceRequest:
        """Return the request in a record body."""
        codec = visit.handle.records
        if request.is_large:
            records = await self._aside.run(lambda: read_large(request, codec))
        else:
            try:
                records = codec.decode(request.body)
            except InvalidArgument:
                request.id = id_in(request.body) or request.id
                raise
        check_element_sizes(records.inputs)
        return record_request(request, visit, records)

    async def _read_generate(self, request: Request, visit: Visit) -> InferenceRequest:
        """Return the request in a generate body."""
        contract = visit.contract
        if request.is_large:
            asked = await self._aside.run(lambda: _asked(request, contract))
        else:
            asked = _asked(request, contract)
        try:
            records = visit.handle.records.decode(_encode({"instances": [asked.record]}))
        except InvalidArgument as exc:
            raise _without_row(exc, contract) from exc
        check_element_sizes(records.inputs)
        records.id, records.parameters = asked.id, asked.parameters
        inference = record_request(request, visit, records)
        inference.model_name = visit.handle.model
        return inference


async def _parts(visit: Visit, inference: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    """Yield the parts that say something."""
    async with aclosing(visit.stream(inference)) as parts:
        async for part in parts:
            if part.response.outputs:
                yield part.response


def _check_generate(request: Request) -> None:
    """Refuse what Triton refuses before it reads the body."""
    check_type(request.head)
    if (request.head.coding or b"").strip().lower() not in (b"", b"identity"):
        raise Refused(400, "UNSUPPORTED_ENCODING", "a generate request must not be encoded")
    if len(request.body) > MAX_GENERATE_BYTES:
        raise too_large(MAX_GENERATE_BYTES)


# -- generate: named inputs at the top or among the parameters ------------------------------------------------------------


def _asked(request: Request, contract: Contract) -> _Generate:
    """Return what a generate body says: keys that are inputs, one row of them, and all others as parameters.

    Raises:
        InvalidArgument: with every mistake found in the body's form.
    """
    value = strict_json.parse(request.body)
    if not isinstance(value, dict):
        raise InvalidArgument("the body must be an object of named inputs")
    fields = {field.wire_name: field for field in contract.inputs}
    own_id = ""
    if "id" in value and "id" not in fields:
        given = value.pop("id")
        request.id = own_id = parse_request_id(given if isinstance(given, str) else "")
    inner = value.pop("parameters", {}) if "parameters" not in fields else {}
    if not isinstance(inner, dict):
        raise InvalidArgument.at("parameters", "must be an object", Reason.INVALID_PARAMETER)
    record: dict[str, Json] = {}
    parameters: dict[str, Parameter] = {}
    found: list[Violation] = []
    for where, items in (("", value), ("parameters.", inner)):
        for key, item in items.items():
            path = f"{where}{shown(key)}"
            field = fields.get(key)
            if field is not None and field.name in record:
                found.append(Violation(path, "is repeated"))
            elif field is not None:
                record[field.name] = _one_row(field, item)
            elif isinstance(item, (str, bool, int, float)):
                # Both places may name one; that made for parameters is read last and counts.
                parameters[key] = item
            else:
                found.append(Violation(path, "is not an input; a parameter must be text, a number, true or false"))
    if found:
        raise InvalidArgument.of(found[:MAX_VIOLATIONS], Reason.INVALID_PARAMETER)
    return _Generate(own_id, record, parameters)


def _one_row(field: Field, value: Json) -> Json:
    """Return a value or a flat list as one row of the field; what does not fit is left for the contract to refuse."""
    if field.is_scalar:
        return value[0] if isinstance(value, list) and len(value) == 1 else value
    if value is None:
        return value
    flat = value if isinstance(value, list) else [value]
    known = prod(d for d in field.shape if d > 0)
    variable = sum(d < 0 for d in field.shape)
    if variable > 1 or len(flat) % known or (not variable and len(flat) != known):
        return flat
    if any(isinstance(item, list) for item in flat):
        return flat
    for size in reversed([len(flat) // known if d < 0 else d for d in field.shape[1:]]):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)] if size else []
    return flat


def _without_row(exc: InvalidArgument, contract: Contract) -> InvalidArgument:
    """Return the error with the paths of a body that names its inputs, as tensors are named, without rows."""
    if not exc.violations:
        return exc
    found = []
    for violation in exc.violations:
        name, *rest = re.split(r"(?=\[)", violation.path.removeprefix(_ROW).removeprefix("."), maxsplit=1)
        field = contract.input(name)
        found.append(Violation("".join([name if field is None else field.wire_name, *rest]), violation.reason))
    return InvalidArgument.of(found, exc.reason)


def _generated(response: InferenceResponse, request_id: str, handle: VersionHandle) -> dict[str, Json]:
    """Return one answer as Triton gives it: outputs under their own names, flat, a single value without its list."""
    called = {field.name: field.wire_name for field in handle.contract.outputs}
    flat = {called.get(name, name): array.reshape(len(array), -1) for name, array in response.outputs.items()}
    (row,) = handle.records.encode(flat)
    head = {"id": request_id} if request_id else {}
    outputs = {name: values[0] if len(values) == 1 else values for name, values in row.items()}
    names = {"model_name": response.model_name, "model_version": response.model_version}
    return {**response.parameters, **head, **names, **outputs}


# -- events ---------------------------------------------------------------------------------------------------------------


def _event(data: dict[str, Json]) -> bytes:
    # JSON has no line breaks of its own, so it is one line of data.
    return b"data: %s\n\n" % _encode(data)


def _plain_error(error: Response) -> bytes:
    return b"data: %s\n\n" % error.body


def _named_error(error: Response) -> bytes:
    return b"event: error\ndata: %s\n\n" % error.body
