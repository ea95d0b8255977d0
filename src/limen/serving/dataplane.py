"""The spine of every request, whatever protocol it came by.

A gateway decodes, calls `infer` or `stream` once, and encodes. Lease, contract check, prediction and the check of the answer
happen here, in this order, so that the protocols cannot differ. Everything raised from here is a `LimenError`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec

from limen import __version__
from limen.contracts.classification import classify
from limen.contracts.contract import Contract
from limen.contracts.errors import Internal, InvalidArgument, LimenError, NotFound, Reason, Unavailable, Unsupported
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome, RequestedOutput
from limen.contracts.names import parse_version
from limen.contracts.openapi_model import ServedContract
from limen.contracts.tensors import Array
from limen.runtime.lifecycle import State, VersionStatus
from limen.runtime.manager import VersionHandle, VersionManager

LOG = logging.getLogger("limen.serving")
EXTENSIONS = ("classification", "parameters", "binary_tensor_data")
"""The protocol extensions this server implements, by Triton's names."""
MAX_REQUESTED_OUTPUTS = 64
_PLATFORMS = {
    "onnx": "onnx_onnxv1",
    "sklearn": "sklearn_skops",
    "xgboost": "xgboost_ubj",
    "lightgbm": "lightgbm_text",
    "python": "python",
}


class TensorMetadata(msgspec.Struct, frozen=True):
    """One input or output as OIP shows it; -1 is variable and the first axis is the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What OIP's model metadata call answers."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    properties: dict[str, str] = {}


class ServerMetadata(msgspec.Struct, frozen=True):
    """What OIP's server metadata call answers."""

    name: str
    version: str
    extensions: tuple[str, ...]


class StreamPart(msgspec.Struct, frozen=True):
    """One part of an answer. The last one says so and may be empty."""

    response: InferenceResponse
    is_final: bool


class DataPlane:
    """Answers inference requests with the versions that a `VersionManager` holds."""

    def __init__(self, versions: VersionManager) -> None:
        """Serve from `versions`."""
        self.versions = versions
        self.is_draining = False
        """Set when the server is about to stop: readiness goes first."""

    def infer_now(self, request: InferenceRequest, deadline: Deadline) -> InferenceResponse | None:
        """Return the answer if it can be given without waiting, else None: the caller then awaits `infer`.

        Most models answer in microseconds, and a request that never waits needs no task.

        Raises:
            LimenError: for every failure; unexpected ones are `Internal` and their text stays in the log.
        """
        handle = self.versions.acquire(request.model_name, request.model_version)
        try:
            self._check(handle, request)
            if handle.deadline_s is not None and deadline.at == math.inf:
                deadline = Deadline.after(handle.deadline_s)
            answer = handle.predictor.predict_now(request, deadline)
            return None if answer is None else self._finish(handle, request, answer)
        except LimenError:
            raise
        except Exception as exc:  # a bug of ours must not become a caller's stack trace
            LOG.exception("unexpected failure in the data plane")
            raise Internal from exc
        finally:
            handle.leases -= 1
            if handle.idle is not None:
                handle.wake()

    async def infer(self, request: InferenceRequest, deadline: Deadline) -> InferenceResponse:
        """Return the model's answer to one request.

        Raises:
            LimenError: for every failure; unexpected ones are `Internal` and their text stays in the log.
        """
        with self.versions.acquire(request.model_name, request.model_version) as handle:
            try:
                self._check(handle, request)
                batch = await handle.predictor.predict((request,), default_deadline(handle, deadline))
                return self._finish(handle, request, batch[0])
            except LimenError:
                raise
            except Exception as exc:  # as above
                LOG.exception("unexpected failure in the data plane")
                raise Internal from exc

    def _check(self, handle: VersionHandle, request: InferenceRequest) -> None:
        """Hold a request against the contract, once."""
        if handle.predictor.can_stream:
            raise Unsupported("this model answers in a stream; use the streaming call")
        if request.checked is not handle.check:
            request.rows = handle.check.check_inputs(request.inputs, is_finite=request.is_finite)
            request.checked = handle.check
        if request.outputs:
            _check_requested(handle, request.outputs)

    def _finish(self, handle: VersionHandle, request: InferenceRequest, outcome: Outcome) -> InferenceResponse:
        """Hold an answer against the contract and give the caller what it asked for."""
        if isinstance(outcome, LimenError):
            raise outcome
        outcome.outputs = handle.check.check_outputs(outcome.outputs, request.rows)
        if request.outputs:
            outcome.outputs = _select(handle, outcome.outputs, request.outputs)
        return outcome

    async def stream(self, request: InferenceRequest, deadline: Deadline) -> AsyncIterator[StreamPart]:
        """Yield the parts of one answer; a unary model gives exactly one.

        Raises:
            LimenError: also in the middle of the stream, for every failure.
        """
        handle = self.versions.acquire(request.model_name, request.model_version)
        try:
            if not handle.predictor.can_stream:
                # Its lease is its own; taking a second one here keeps the version in memory meanwhile.
                yield StreamPart(await self.infer(request, deadline), is_final=True)
                return
            request.rows = handle.check.check_inputs(request.inputs)
            _check_requested(handle, request.outputs)
            parts = handle.predictor.stream(request, default_deadline(handle, deadline))
            # Closed before the lease is given back, however this one ends.
            async with aclosing(parts):
                async for response in parts:
                    response.outputs = handle.check.check_outputs(response.outputs, request.rows)
                    if request.outputs:
                        response.outputs = _select(handle, response.outputs, request.outputs)
                    yield StreamPart(response, is_final=False)
            end = InferenceResponse(request.model_name, handle.version, {}, request.id)
            yield StreamPart(end, is_final=True)
        except LimenError:
            raise
        except Exception as exc:
            LOG.exception("unexpected failure in a stream")
            raise Internal from exc
        finally:
            handle.release()

    def contract(self, name: str, version: str = "") -> Contract:
        """Return the contract of a ready version."""
        with self.versions.acquire(name, version) as handle:
            return handle.contract

    def served(self, name: str = "") -> list[ServedContract]:
        """Return every ready version with its contract, for documents; of one model when named.

        Raises:
            NotFound: there is no such model.
            Unavailable: it has no ready version.
        """
        if name:
            self.versions.acquire(name).release()
        found = []
        for model in (name,) if name else self.versions.models():
            for version in self.versions.versions(model):
                with self.versions.acquire(model, version) as handle:
                    platform = platform_of(handle.package.manifest.backend)
                    found.append(ServedContract(handle.contract, version, platform, handle.predictor.can_stream))
        return found

    def can_stream(self, name: str, version: str = "") -> bool:
        """Return whether a model answers in several parts."""
        with self.versions.acquire(name, version) as handle:
            return handle.predictor.can_stream

    def is_live(self) -> bool:
        """Return whether the process works at all."""
        return True

    def is_ready(self) -> bool:
        """Return whether every model that should be ready is, and the server is not about to stop."""
        models = self.versions.models()
        return not self.is_draining and all(self.versions.versions(m) for m in models)

    def is_model_ready(self, name: str, version: str = "") -> bool:
        """Return whether a model can be used now.

        Raises:
            NotFound: there is no such model or version.
            InvalidArgument: the version is not a number.
        """
        try:
            self.versions.acquire(name, version).release()
        except Unavailable:
            return False
        return not self.is_draining

    def models(self) -> tuple[str, ...]:
        """Return the names of all models, ready or not."""
        return self.versions.models()

    def statuses(self, name: str, version: str = "") -> list[VersionStatus]:
        """Return the state of a model's versions, or of the one named.

        Raises:
            NotFound: there is no such model or version.
            InvalidArgument: the version is not a number.
        """
        if version:
            parse_version(version)
        found = [
            s for s in self.versions.statuses(name) if version in ("", s.version) and s.state is not State.UNLOADED
        ]
        if not found:
            raise NotFound("there is no such model or version")
        return found

    def server_metadata(self) -> ServerMetadata:
        """Return the server's name, version and extensions."""
        return ServerMetadata("limen", __version__, EXTENSIONS)

    def model_metadata(self, name: str, version: str = "") -> ModelMetadata:
        """Return a model's tensors as the protocol describes them."""
        with self.versions.acquire(name, version) as handle:
            contract = handle.contract
        shown = (
            ("title", contract.title),
            ("owner", contract.owner),
            ("licence", contract.licence),
            ("task", contract.task),
        )
        return ModelMetadata(
            name=name,
            versions=self.versions.versions(name),
            platform=platform_of(handle.package.manifest.backend),
            inputs=tuple(TensorMetadata(f.name, f.wire, f.batched_shape) for f in contract.inputs),
            outputs=tuple(TensorMetadata(f.name, f.wire, f.batched_shape) for f in contract.outputs),
            properties={key: value for key, value in shown if value} | {"digest": handle.package.digest},
        )


def platform_of(backend: str) -> str:
    """Return OIP's platform name of a backend, `<project>_<format>`."""
    return _PLATFORMS.get(backend, backend)


def default_deadline(handle: VersionHandle, deadline: Deadline) -> Deadline:
    """Return the caller's deadline, or the contract's when the caller names none."""
    declared = handle.deadline_s
    return deadline if deadline.is_set or declared is None else Deadline.after(declared)


def _check_requested(handle: VersionHandle, requested: tuple[RequestedOutput, ...]) -> None:
    """Refuse outputs that do not exist, twice the same one, and too many, before the model is asked."""
    if len(requested) > MAX_REQUESTED_OUTPUTS:
        raise InvalidArgument(f"at most {MAX_REQUESTED_OUTPUTS} outputs may be requested", reason=Reason.OUTPUT_SET)
    seen: set[str] = set()
    for i, wanted in enumerate(requested):
        if wanted.name not in handle.check.outputs:
            raise InvalidArgument.at(f"outputs[{i}].name", "is not an output of this model", Reason.OUTPUT_SET)
        if wanted.name in seen:
            raise InvalidArgument.at(f"outputs[{i}].name", "is requested twice", Reason.OUTPUT_SET)
        if wanted.classification < 0:
            raise InvalidArgument.at(
                f"outputs[{i}].parameters.classification", "must be 1 or more", Reason.INVALID_PARAMETER
            )
        seen.add(wanted.name)


def _select(
    handle: VersionHandle, outputs: dict[str, Array], requested: tuple[RequestedOutput, ...]
) -> dict[str, Array]:
    """Return the requested outputs in the order asked for, classified where asked."""
    chosen: dict[str, Array] = {}
    for wanted in requested:
        array = outputs[wanted.name]
        if wanted.classification:
            array = classify(array, wanted.classification, handle.check.outputs[wanted.name])
        chosen[wanted.name] = array
    return chosen
