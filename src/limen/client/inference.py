"""Call models: `AsyncClient`, and `Client`, its synchronous face."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypedDict, Unpack
from urllib.parse import urlsplit

from limen.client.answers import Answer
from limen.client.portal import Blocking, Face
from limen.client.retries import Attempt, Retrying, RetryPolicy
from limen.contracts.errors import DeadlineExceeded, InvalidArgument, LimenError

if TYPE_CHECKING:
    import httpx
    import pandas as pd  # type: ignore[import-untyped]  # its stubs are a package of their own

    from limen.client.forms import Given, Record, Signature
    from limen.client.transport import Question, Reply, Transport
    from limen.contracts.inference import Parameter
    from limen.contracts.tensors import Array

    Inputs: TypeAlias = Record | Sequence[Record] | Mapping[str, Array] | pd.DataFrame

TIMEOUT_S: Final = 30.0
BULK_ROWS: Final = 256
"""Records from which tensors are sent in place of JSON: a fraction of the bytes, and nothing for the server to parse."""
SIGNATURE_S: Final = 60.0
"""How long a client relies on what it knows about an endpoint's tensors."""
_POLICY: Final = RetryPolicy()


class CallOptions(TypedDict, total=False):
    """What may be said about a call."""

    version: int | str
    """A version's number, in place of the endpoint's own choice."""
    outputs: Sequence[str]
    """The outputs that are wanted; all when left out."""
    parameters: Mapping[str, Parameter]
    """For the model, and the protocol's own, such as `priority`."""
    timeout: float | None
    """Seconds for the whole call, every attempt and wait included; None for no limit. The client's own when left out."""
    request_id: str
    """What the server's logs are to call the request: 1 to 128 of `A-Z a-z 0-9 . _ : -`. Made up when left out."""


class ClientOptions(TypedDict, total=False):
    """What may be said about a client."""

    timeout: float | None
    """Seconds for a call that says nothing else, 30 when left out; None for no limit."""
    retry: RetryPolicy
    """When calls are tried again."""
    headers: Mapping[str, str]
    """Sent with every request (metadata over gRPC), such as `authorization`."""
    transport: httpx.AsyncBaseTransport | None
    """What carries HTTP requests in place of the network; REST only."""


class AsyncClient:
    """Calls the models of one server. Use it in one event loop; any number of calls may be in flight.

        async with AsyncClient("grpc://127.0.0.1:8001") as client:
            answer = await client.predict("credit@champion", records)

    Connections are opened when they are needed and kept. Every failure is a `limen.contracts.errors.LimenError`.
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        """Take the address of a server: `http://`, `https://`, `grpc://` or `grpcs://`.

        Raises:
            InvalidArgument: the address is none of these.
        """
        self._timeout = options.get("timeout", TIMEOUT_S)
        self._retrying = Retrying(options.get("retry", _POLICY))
        self._transport = _transport(url, options)
        self._known: dict[tuple[str, str], tuple[float, Signature]] = {}

    async def predict(self, endpoint: str, inputs: Inputs, **options: Unpack[CallOptions]) -> Answer:
        """Return the model's answer.

        Args:
            endpoint: an endpoint, or `ENDPOINT@ALIAS`.
            inputs: one record, a list of records, a mapping of NumPy arrays (rows along the first axis) or a data frame.
            options: see `CallOptions`.

        Raises:
            LimenError: what the server told, `Unavailable` when it cannot be reached, `DeadlineExceeded` when time is up.
        """
        given, question = self._question(endpoint, inputs, options)

        async def once(attempt: Attempt) -> Answer:
            reply = await self._transport.ask(await self._filled(question, given, attempt), attempt)
            return await self._answer(reply, given, question, attempt)

        with _named(question):
            return await self._retrying.run(once, options.get("timeout", self._timeout))

    async def stream(
        self, endpoint: str, inputs: Inputs, **options: Unpack[CallOptions]
    ) -> AsyncGenerator[Answer, None]:
        """Yield the parts of an answer as the model makes them; a model that does not stream gives one.

        Closing the generator (`contextlib.aclosing`, or leaving the loop) tells the server to stop. Only a stream that has
        given nothing yet is tried again; `timeout` spans all of it.

        Args:
            endpoint: an endpoint, or `ENDPOINT@ALIAS`.
            inputs: as for `predict`.
            options: see `CallOptions`.

        Raises:
            LimenError: as for `predict`, also after parts were given.
        """
        given, question = self._question(endpoint, inputs, options)
        timeout_s = options.get("timeout", self._timeout)
        ends_at = math.inf if timeout_s is None else time.monotonic() + timeout_s

        async def begin(attempt: Attempt) -> tuple[AsyncGenerator[Reply, None], Answer | None]:
            asked = await self._filled(question, given, attempt, is_stream=True)
            parts = self._transport.stream(asked, attempt)
            try:
                return parts, await self._next(parts, given, question, attempt)
            except BaseException:
                await parts.aclose()
                raise

        with _named(question):
            parts, part = await self._retrying.run(begin, timeout_s)
            async with aclosing(parts):
                while part is not None:
                    yield part
                    part = await self._next(parts, given, question, Attempt(0, ends_at))

    async def signature(self, endpoint: str, version: int | str = "") -> Signature:
        """Return the tensors that go into an endpoint and come out of it.

        Raises:
            LimenError: as for `predict`.
        """
        key = (endpoint, str(version))
        return await self._retrying.run(lambda attempt: self._signature(*key, uuid.uuid4().hex, attempt), self._timeout)

    async def is_ready(self, endpoint: str = "", version: int | str = "") -> bool:
        """Return whether an endpoint answers; whether all of the server does when no endpoint is named.

        Raises:
            LimenError: the server cannot be reached, or has no such endpoint.
        """
        key = (endpoint, str(version))
        return await self._retrying.run(lambda attempt: self._transport.is_ready(*key, attempt), self._timeout)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        """Return the client, which the block's end closes."""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _question(self, endpoint: str, inputs: Inputs, options: CallOptions) -> tuple[Given, Question]:
        from limen.client.forms import read_inputs
        from limen.client.transport import Question
        from limen.contracts.names import parse_request_id

        given_id = options.get("request_id", "")
        question = Question(
            endpoint=endpoint,
            version=str(options.get("version", "")),
            request_id=parse_request_id(given_id) if given_id else uuid.uuid4().hex,
            parameters=options.get("parameters", {}),
            outputs=tuple(options.get("outputs", ())),
        )
        return read_inputs(inputs), question

    async def _filled(self, question: Question, given: Given, attempt: Attempt, *, is_stream: bool = False) -> Question:
        """Return the question with the inputs in the form that costs least to send."""
        import msgspec

        from limen.client.forms import Inexpressible, rows_of

        takes_rows = self._transport.streams_rows if is_stream else self._transport.takes_rows
        if is_stream and takes_rows:
            return msgspec.structs.replace(question, rows=rows_of(given))
        if given.tensors is not None and not given.is_mixed:
            return msgspec.structs.replace(question, tensors=given.tensors)
        if takes_rows and given.rows is not None and given.count < BULK_ROWS:
            return msgspec.structs.replace(question, rows=given.rows)
        try:
            known, tensors = await self._tensors(question, given, attempt)
        except Inexpressible as exc:
            if not takes_rows:
                raise InvalidArgument(exc.message, reason=exc.reason, violations=exc.violations) from exc
            # JSON says more than tensors can, and the server says best what is wrong.
            return msgspec.structs.replace(question, rows=rows_of(given))
        outputs = tuple(known.outputs[name].name if name in known.outputs else name for name in question.outputs)
        return msgspec.structs.replace(question, tensors=tensors, outputs=outputs)

    async def _tensors(self, question: Question, given: Given, attempt: Attempt) -> tuple[Signature, dict[str, Array]]:
        """Return rows or a data frame as tensors, and what was known of the model then."""
        from limen.client.forms import Inexpressible, tensors_of

        key = (question.endpoint, question.version)
        was_known = key in self._known
        try:
            known = await self._signature(*key, question.request_id, attempt)
            return known, tensors_of(given, known)
        except Inexpressible:
            if not was_known:
                raise
            # The endpoint may have another version by now, which takes more.
            self._known.pop(key, None)
            known = await self._signature(*key, question.request_id, attempt)
            return known, tensors_of(given, known)

    async def _signature(self, endpoint: str, version: str, request_id: str, attempt: Attempt) -> Signature:
        key = (endpoint, version)
        until, known = self._known.get(key, (0.0, None))
        if known is None or until < time.monotonic():
            known = await self._transport.signature(endpoint, version, request_id, attempt)
            self._known[key] = (time.monotonic() + SIGNATURE_S, known)
        return known

    async def _next(
        self, parts: AsyncGenerator[Reply, None], given: Given, question: Question, attempt: Attempt
    ) -> Answer | None:
        """Return the next part of a stream; None when there is none."""
        try:
            async with asyncio.timeout(None if math.isinf(attempt.ends_at) else attempt.remaining_s()):
                reply = await anext(parts, None)
                return None if reply is None else await self._answer(reply, given, question, attempt)
        except TimeoutError as exc:
            raise DeadlineExceeded from exc

    async def _answer(self, reply: Reply, given: Given, question: Question, attempt: Attempt) -> Answer:
        tensors = reply.tensors
        types: Any = {}
        has_texts = tensors is not None and any(array.dtype.kind == "O" for array in tensors.values())
        # The signature is known wherever records were sent as tensors.
        is_fields = tensors is not None and given.tensors is None
        if has_texts or is_fields or (reply.rows is not None and given.rows is None):
            from limen.client.forms import as_fields, with_texts

            known = await self._signature(question.endpoint, question.version, question.request_id, attempt)
            types = known.outputs
            if tensors is not None:
                tensors = with_texts(tensors, types)
                tensors = as_fields(tensors, known) if is_fields else tensors
        return Answer(
            given,
            model=reply.model,
            version=reply.version,
            request_id=reply.request_id,
            is_fallback=reply.is_fallback,
            rows=reply.rows,
            tensors=tensors,
            types=types,
        )


class Client(Face[AsyncClient]):
    """`AsyncClient` for programs without an event loop; may be used by many threads. Each method waits for its namesake.

    with Client("http://127.0.0.1:8000") as client:
        print(client.predict("credit", {"loan_amount": 6500}).record)
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        """Take what `AsyncClient` takes."""
        super().__init__(AsyncClient(url, **options))

    predict = Blocking(AsyncClient.predict)
    signature = Blocking(AsyncClient.signature)
    is_ready = Blocking(AsyncClient.is_ready)

    def stream(self, endpoint: str, inputs: Inputs, **options: Unpack[CallOptions]) -> Generator[Answer, None, None]:
        """Yield the parts of an answer; see `AsyncClient.stream`. Closing the generator tells the server to stop."""
        return self._portal.iterate(self._client.stream(endpoint, inputs, **options))


@contextmanager
def _named(question: Question) -> Iterator[None]:
    """Name the request in errors that no server has named it in."""
    try:
        yield
    except LimenError as error:
        error.request_id = error.request_id or question.request_id
        raise


def _transport(url: str, options: ClientOptions) -> Transport:
    """Return the transport that an address asks for, not yet connected. Its libraries are loaded here."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise InvalidArgument.at("url", "is not a URL") from exc
    headers = options.get("headers", {})
    if parts.scheme in ("http", "https") and host:
        from limen.client.rest import Rest

        return Rest(url, headers, options.get("transport"))
    if parts.scheme in ("grpc", "grpcs") and host:
        if port is None:
            raise InvalidArgument.at("url", "must name a port")
        from limen.client.rpc import Rpc

        return Rpc(parts.netloc, headers, is_secure=parts.scheme == "grpcs")
    raise InvalidArgument.at("url", "must be an address that begins with http://, https://, grpc:// or grpcs://")
