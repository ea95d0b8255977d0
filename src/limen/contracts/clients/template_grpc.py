"""The gRPC half of a generated client, identical for every model; `contracts.clients.code` appends it to `template_rest`.

It is text and not code because it runs in programs that have no Limen. What a test generates from it is type-checked and linted.
"""

from __future__ import annotations

from typing import Final

GRPC: Final = '''\
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
                given = _plain(value)
                if given is not None:
                    _INPUTS[name].write(message, given)
                elif value is not None and not _INPUTS[name].is_nullable:
                    raise _refused(path, "must not be null", id)
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
    is_json: bool = False
    missing: Any = math.nan

    def write(self, message: Any, value: Any) -> None:
        """Set the field; nested lists become flat ones, with their shape beside them where several axes vary."""
        if self.is_json:
            value = _dumped(value, len(self.shape))
        if not self.shape:
            setattr(message, self.attribute, value)
            return
        sizes, values = [], value
        for axis in range(len(self.shape)):
            sizes.append(len(values))
            if axis + 1 < len(self.shape):
                values = [item for part in values for item in part]
        values = [self._element(_plain(item)) for item in values]
        target = getattr(message, self.attribute)
        if self._has_shape:
            # One row of a shape: the length of an inner axis is that of all lists together, shared evenly.
            target.shape.extend(size // max(before, 1) for before, size in zip([1, *sizes], sizes))
            target.values.extend(values)
        else:
            target.extend(values)

    def _element(self, value: Any) -> Any:
        if value is None and not self.is_nullable:
            raise ValueError
        return self.missing if value is None else value

    def read(self, message: Any) -> Any:
        """Return the value, nested as the contract says; None when there is none."""
        value = self._nested(message)
        return _loaded(value, len(self.shape)) if self.is_json else value

    def _nested(self, message: Any) -> Any:
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


def _dumped(value: Any, axes: int) -> Any:
    return json.dumps(value) if axes == 0 else [_dumped(item, axes - 1) for item in value]


def _loaded(value: Any, axes: int) -> Any:
    if value is None:
        return None
    return json.loads(value) if axes == 0 else [_loaded(item, axes - 1) for item in value]


def _nested(values: list[Any], shape: Sequence[int]) -> list[Any]:
    if len(shape) == 1:
        return values
    step = math.prod(shape[1:])
    return [_nested(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


_NO_FIELD = _Field()
'''
