"""The part of a generated client that is the same for every model; `contracts.client_code` puts the model's own part before it.

It is text and not code because it runs in programs that have no Limen. What a test generates from it is type-checked and linted.
"""

from __future__ import annotations

from typing import Final

HEAD: Final = """\
from __future__ import annotations

import base64
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
"""

BODY: Final = '''\
Parameter = bool | int | float | str


@dataclass(frozen=True)
class Answer:
    """What a call gives: one prediction for each instance, in the same order."""

    predictions: list[Prediction]
    model_name: str
    model_version: str
    """The version that answered."""
    id: str = ""
    """What the request is called in the server's log."""
    fallback: str = ""
    """`constant` or `version` when the declared fallback answered and not the model."""


class CallFailed(Exception):
    """The server refused or failed; the same for both protocols."""

    def __init__(
        self, message: str, status: int | str, reason: str, violations: Sequence[tuple[str, str]], id: str
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        """HTTP status, or the name of the gRPC status."""
        self.reason = reason
        """The code of the error catalogue, such as `VALUE` or `OVERLOADED`."""
        self.violations = tuple(violations)
        """Every mistake: its path, such as `instances[0].income`, and what is allowed there."""
        self.id = id
        """What the request is called in the server's log."""


# ---- REST ----------------------------------------------------------------------------------------------------------------


class RestClient:
    """Calls the model over REST, needs `httpx`. One connection pool; close it, or use it in a `with` block."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        version: str = "",
        timeout_s: float = 10.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take the address of the server; `version` is a number or an alias."""
        self._path = _path(version)
        self._timeout_s = timeout_s
        self._http: Any = import_module("httpx").Client(base_url=base_url, timeout=timeout_s, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self, instances: Sequence[Instance], *, id: str = "", parameters: Mapping[str, Parameter] | None = None
    ) -> Answer:
        """Return the model's predictions; raise `CallFailed` when there are none."""
        headers = {"x-request-timeout-ms": _milliseconds(self._timeout_s)}
        try:
            response = self._http.post(self._path, json=_body(instances, id, parameters), headers=headers)
        except import_module("httpx").HTTPError as error:
            raise _unanswered(error, id) from error
        return _rest_answer(response)


class AsyncRestClient:
    """Calls the model over REST from asynchronous code, needs `httpx`."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        version: str = "",
        timeout_s: float = 10.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take the address of the server; `version` is a number or an alias."""
        self._path = _path(version)
        self._timeout_s = timeout_s
        self._http: Any = import_module("httpx").AsyncClient(base_url=base_url, timeout=timeout_s, headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self, instances: Sequence[Instance], *, id: str = "", parameters: Mapping[str, Parameter] | None = None
    ) -> Answer:
        """Return the model's predictions; raise `CallFailed` when there are none."""
        headers = {"x-request-timeout-ms": _milliseconds(self._timeout_s)}
        try:
            response = await self._http.post(self._path, json=_body(instances, id, parameters), headers=headers)
        except import_module("httpx").HTTPError as error:
            raise _unanswered(error, id) from error
        return _rest_answer(response)


def _unanswered(error: Exception, id: str) -> CallFailed:
    return CallFailed(f"the server does not answer ({type(error).__name__})", "UNAVAILABLE", "NOT_READY", (), id)


def _path(version: str) -> str:
    kind = "versions" if version.isdecimal() else "labels"
    return f"/v1/models/{MODEL}{f'/{kind}/{version}' if version else ''}:predict"


def _milliseconds(timeout_s: float) -> str:
    return str(max(1, math.floor(timeout_s * 1000)))


def _body(instances: Sequence[Instance], id: str, parameters: Mapping[str, Parameter] | None) -> dict[str, Any]:
    rows = [{name: _to_json(value) for name, value in row.items()} for row in instances]
    body: dict[str, Any] = {"instances": rows}
    if id:
        body["id"] = id
    if parameters:
        body["parameters"] = dict(parameters)
    return body


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [_to_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def _rest_answer(response: Any) -> Answer:
    id = response.headers.get("x-request-id", "")
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.status_code != 200:
        details = [(d.get("path", ""), d.get("reason", "")) for d in body.get("details", [])]
        raise CallFailed(body.get("error", response.reason_phrase), response.status_code, body.get("code", ""), details, id)
    rows = [{name: _from_json(name, value) for name, value in row.items()} for row in body["predictions"]]
    return Answer(cast("list[Prediction]", rows), body["model_name"], body["model_version"], id, body.get("fallback", ""))


def _from_json(name: str, value: Any) -> Any:
    return _unpacked(value) if _OUTPUTS.get(name, _NO_FIELD).is_bytes else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    return base64.b64decode(value) if isinstance(value, str) else value


# ---- gRPC ----------------------------------------------------------------------------------------------------------------


class GrpcClient:
    """Calls the model's own gRPC service, needs `grpcio` and `protobuf`. One channel; close it, or use it in a `with` block."""

    def __init__(
        self, target: str = "127.0.0.1:8001", *, version: str = "", timeout_s: float = 10.0, credentials: Any = None
    ) -> None:
        """Take the address of the server; `version` is a number or an alias, `credentials` are those of a secure channel."""
        grpc: Any = import_module("grpc")
        self._error: Any = grpc.RpcError
        self._channel: Any = (
            grpc.secure_channel(target, credentials) if credentials is not None else grpc.insecure_channel(target)
        )
        self._options: Any = {"timeout": timeout_s, "metadata": _metadata(version)}
        self._predict = self._channel.unary_unary(f"/{SERVICE}/Predict")
        self._stream = self._channel.unary_stream(f"/{SERVICE}/PredictStream")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def predict(
        self, instances: Sequence[Instance], *, id: str = "", parameters: Mapping[str, Parameter] | None = None
    ) -> Answer:
        """Return the model's predictions; raise `CallFailed` when there are none."""
        try:
            return _grpc_answer(self._predict(_message(instances, id, parameters), **self._options))
        except self._error as error:
            raise _call_failed(error) from None

    def stream(
        self, instances: Sequence[Instance], *, id: str = "", parameters: Mapping[str, Parameter] | None = None
    ) -> Iterator[Answer]:
        """Yield the parts of an answer as the model makes them; raise `CallFailed`, also in the middle."""
        call = self._stream(_message(instances, id, parameters), **self._options)
        try:
            for data in call:
                yield _grpc_answer(data)
        except self._error as error:
            raise _call_failed(error) from None
        finally:
            call.cancel()


class AsyncGrpcClient:
    """Calls the model's own gRPC service from asynchronous code, needs `grpcio` and `protobuf`."""

    def __init__(
        self, target: str = "127.0.0.1:8001", *, version: str = "", timeout_s: float = 10.0, credentials: Any = None
    ) -> None:
        """Take the address of the server; `version` is a number or an alias, `credentials` are those of a secure channel."""
        grpc: Any = import_module("grpc")
        self._error: Any = grpc.RpcError
        self._channel: Any = (
            grpc.aio.secure_channel(target, credentials) if credentials is not None else grpc.aio.insecure_channel(target)
        )
        self._options: Any = {"timeout": timeout_s, "metadata": _metadata(version)}
        self._predict = self._channel.unary_unary(f"/{SERVICE}/Predict")
        self._stream = self._channel.unary_stream(f"/{SERVICE}/PredictStream")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def predict(
        self, instances: Sequence[Instance], *, id: str = "", parameters: Mapping[str, Parameter] | None = None
    ) -> Answer:
        """Return the model's predictions; raise `CallFailed` when there are none."""
        try:
            return _grpc_answer(await self._predict(_message(instances, id, parameters), **self._options))
        except self._error as error:
            raise _call_failed(error) from None

    async def stream(
        self, instances: Sequence[Instance], *, id: str = "", parameters: Mapping[str, Parameter] | None = None
    ) -> AsyncIterator[Answer]:
        """Yield the parts of an answer as the model makes them; raise `CallFailed`, also in the middle."""
        call = self._stream(_message(instances, id, parameters), **self._options)
        try:
            async for data in call:
                yield _grpc_answer(data)
        except self._error as error:
            raise _call_failed(error) from None
        finally:
            call.cancel()


def _metadata(version: str) -> tuple[tuple[str, str], ...]:
    return (("limen-version", version),) if version else ()


def _kind(name: str) -> Any:
    """Return a message class; the messages are built once, when the first call is made."""
    if not _KINDS:
        pool: Any = import_module("google.protobuf.descriptor_pool").DescriptorPool()
        get: Any = import_module("google.protobuf.message_factory").GetMessageClass
        for file in (_FILE, _ERRORS):
            pool.AddSerializedFile(base64.b64decode(file))
        package = SERVICE.rpartition(".")[0]
        for found in ("PredictRequest", "PredictResponse"):
            _KINDS[found] = get(pool.FindMessageTypeByName(f"{package}.{found}"))
        for found in ("Status", "BadRequest", "ErrorInfo"):
            _KINDS[found] = get(pool.FindMessageTypeByName(f"limen.client.{found}"))
    return _KINDS[name]


_KINDS: dict[str, Any] = {}


def _message(instances: Sequence[Instance], id: str, parameters: Mapping[str, Parameter] | None) -> bytes:
    request = _kind("PredictRequest")(id=id)
    for place, row in enumerate(instances):
        message = request.instances.add()
        for name, value in row.items():
            path = f"instances[{place}].{name}"
            if name not in _INPUTS:
                raise _refused(path, "is not a field of this model", id)
            try:
                if value is not None:
                    _INPUTS[name].write(message, value)
            except (TypeError, ValueError) as error:
                raise _refused(path, "has a value of another type", id) from error
    for key, item in (parameters or {}).items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param"}.get(type(item), "string_param")
        setattr(request.parameters[key], kind, item)
    data: bytes = request.SerializeToString()
    return data


def _refused(path: str, reason: str, id: str) -> CallFailed:
    return CallFailed(f"{path}: {reason}", "INVALID_ARGUMENT", "INVALID_FIELD", [(path, reason)], id)


def _grpc_answer(data: bytes) -> Answer:
    answer = _kind("PredictResponse").FromString(data)
    rows = [{name: field.read(message) for name, field in _OUTPUTS.items()} for message in answer.predictions]
    found = cast("list[Prediction]", rows)
    return Answer(found, answer.model_name, answer.model_version, answer.id, answer.fallback)


def _call_failed(error: Any) -> CallFailed:
    trailers = dict(error.trailing_metadata() or ())
    violations: list[tuple[str, str]] = []
    reason = ""
    for detail in _kind("Status").FromString(trailers.get("grpc-status-details-bin", b"")).details:
        if detail.type_url.endswith("/google.rpc.ErrorInfo"):
            reason = _kind("ErrorInfo").FromString(detail.value).reason
        elif detail.type_url.endswith("/google.rpc.BadRequest"):
            bad = _kind("BadRequest").FromString(detail.value)
            violations += [(found.field, found.description) for found in bad.field_violations]
    id = str(trailers.get("x-request-id", ""))
    return CallFailed(error.details() or "", error.code().name, reason, violations, id)


@dataclass(frozen=True)
class _Field:
    """How one field travels."""

    attribute: str = ""
    shape: tuple[int, ...] = ()
    is_nullable: bool = False
    is_bytes: bool = False

    def write(self, message: Any, value: Any) -> None:
        """Set the field; nested lists become flat ones, with their shape beside them where several axes vary."""
        if not self.shape:
            setattr(message, self.attribute, value)
            return
        sizes, values = [], value
        for axis in range(len(self.shape)):
            sizes.append(len(values))
            if axis + 1 < len(self.shape):
                values = [item for part in values for item in part]
        target = getattr(message, self.attribute)
        if self._has_shape:
            # One row of a shape: the length of an inner axis is that of all lists together, shared evenly.
            target.shape.extend(size // max(before, 1) for before, size in zip([1, *sizes], sizes))
            target.values.extend(values)
        else:
            target.extend(values)

    def read(self, message: Any) -> Any:
        """Return the value, nested as the contract says; None when there is none."""
        value = getattr(message, self.attribute)
        if not self.shape:
            return None if self.is_nullable and not message.HasField(self.attribute) else value
        if self._has_shape:
            return _nested(list(value.values), list(value.shape))
        values = list(value)
        if self.is_nullable and not values:
            return None
        known = math.prod(size for size in self.shape if size > 0)
        return _nested(values, [len(values) // known if size < 0 else size for size in self.shape])

    @property
    def _has_shape(self) -> bool:
        return sum(size < 0 for size in self.shape) > 1


def _nested(values: list[Any], shape: Sequence[int]) -> list[Any]:
    if len(shape) == 1:
        return values
    step = math.prod(shape[1:])
    return [_nested(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


_NO_FIELD = _Field()
'''
