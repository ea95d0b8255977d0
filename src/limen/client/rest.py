"""REST: rows through the record API, tensors through the Open Inference Protocol in binary, streams as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
import orjson

from limen.client.forms import Signature, json_value
from limen.client.link import HttpLink
from limen.client.oip import LENGTH_HEADER, decode_answer, encode_question
from limen.client.problems import from_event
from limen.client.retries import Attempt
from limen.client.sse import Event, EventReader
from limen.client.transport import Metadata, Question, Reply
from limen.contracts.errors import Internal, InvalidArgument, Reason, Unavailable

if TYPE_CHECKING:
    import httpx

_JSON: Final = {"content-type": "application/json"}
_OCTETS: Final = {"content-type": "application/octet-stream"}


class _Predictions(msgspec.Struct):
    predictions: list[dict[str, Any]]
    model_name: str = ""
    model_version: str = ""
    fallback: str = ""


class Rest:
    """One server over HTTP."""

    takes_rows = True
    streams_rows = True

    def __init__(self, url: str, headers: Mapping[str, str], transport: httpx.AsyncBaseTransport | None) -> None:
        """Take the address, headers of every request and, in place of the network, what carries them."""
        # Numbers hardly shrink, and both sides would pay for the attempt.
        self._link = HttpLink(url, {"accept-encoding": "identity", **headers}, transport)

    async def ask(self, question: Question, attempt: Attempt) -> Reply:
        """Return the answer to a question; rows are sent as JSON, tensors as bytes."""
        headers = {"x-request-id": question.request_id}
        if question.tensors is None:
            path, body = _path("v1", question.endpoint, question.version) + ":predict", _encode_rows(question)
            response = await self._link.send("POST", path, attempt, content=body, headers={**headers, **_JSON})
            return _rows_reply(response.content, question, response.headers.get("x-request-id", question.request_id))
        body, length = encode_question(question)
        headers = {**headers, **_OCTETS, LENGTH_HEADER: str(length)}
        path = _path("v2", question.endpoint, question.version) + "/infer"
        response = await self._link.send("POST", path, attempt, content=body, headers=headers)
        said = response.headers
        return decode_answer(response.content, said.get(LENGTH_HEADER), said.get("x-request-id", question.request_id))

    async def stream(self, question: Question, attempt: Attempt) -> AsyncGenerator[Reply, None]:
        """Yield the parts of an answer, of which the last is not one: it says that nothing is missing."""
        path = _path("v1", question.endpoint, question.version) + ":stream"
        headers = {"x-request-id": question.request_id, **_JSON}
        pieces = self._link.receive("POST", path, attempt, content=_encode_rows(question), headers=headers)
        reader = EventReader()
        async with aclosing(pieces):
            async for piece in pieces:
                for event in reader.feed(piece):
                    if event.kind == "end":
                        return
                    yield _part(event, question)
        raise Unavailable("the stream broke off")

    async def signature(self, endpoint: str, version: str, request_id: str, attempt: Attempt) -> Signature:
        """Return what goes in and what comes out."""
        headers = {"x-request-id": request_id}
        response = await self._link.send("GET", _path("v2", endpoint, version), attempt, headers=headers)
        try:
            return msgspec.json.decode(response.content, type=Metadata).signature()
        except msgspec.MsgspecError as exc:
            raise Internal("the answer is not model metadata") from exc

    async def is_ready(self, endpoint: str, version: str, attempt: Attempt) -> bool:
        """Return whether an endpoint answers; the server as a whole when no endpoint is named."""
        path = _path("v2", endpoint, version) + "/ready" if endpoint else "/v2/health/ready"
        try:
            await self._link.send("GET", path, attempt)
        except Unavailable as exc:
            # A server that says no has answered; one that cannot be reached has not.
            if exc.__cause__ is not None:
                raise
            return False
        return True

    async def aclose(self) -> None:
        """Close all connections."""
        await self._link.aclose()


def _path(dialect: str, endpoint: str, version: str) -> str:
    path = f"/{dialect}/models/{quote(endpoint, safe='@')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _encode_rows(question: Question) -> bytes:
    body: dict[str, Any] = {"instances": question.rows}
    if question.parameters:
        body["parameters"] = dict(question.parameters)
    try:
        return orjson.dumps(body, default=json_value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as exc:
        raise InvalidArgument.at("instances", "contain a value that cannot be written as JSON", Reason.VALUE) from exc


def _rows_reply(body: bytes, question: Question, request_id: str) -> Reply:
    try:
        said = msgspec.json.decode(body, type=_Predictions)
    except msgspec.MsgspecError as exc:
        raise Internal("the answer is not a record API answer") from exc
    rows = said.predictions
    if question.outputs:
        unknown = [i for i, name in enumerate(question.outputs) if any(name not in row for row in rows[:1])]
        if unknown:
            raise InvalidArgument.at(f"outputs[{unknown[0]}]", "is not an output of this model", Reason.OUTPUT_SET)
        rows = [{name: row[name] for name in question.outputs} for row in rows]
    return Reply(
        model=said.model_name or question.endpoint,
        version=said.model_version,
        request_id=request_id,
        is_fallback=bool(said.fallback),
        rows=rows,
    )


def _part(event: Event, question: Question) -> Reply:
    if event.kind == "error":
        raise from_event(event.data, question.request_id)
    return _rows_reply(event.data, question, question.request_id)
