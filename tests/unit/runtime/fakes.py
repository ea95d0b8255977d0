"""A placement whose sinks do what a test asks: it loads without a model and answers by script."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import numpy as np

from limen.contracts.contract import Contract, Example, Field
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.packaging.archive.package import Package
from limen.packaging.manifest.values import Fallback, Manifest
from limen.runtime.batching.batcher import Batcher
from limen.runtime.predictor import Sink

GOLDEN = Example(name="golden", inputs={"x": 2.0}, outputs={"y": 4.0})


def contract(name: str = "double", **changes) -> Contract:
    """Return the contract of a model that doubles a number."""
    fields = {"inputs": (Field(name="x", type="float32"),), "outputs": (Field(name="y", type="float32"),)}
    return Contract(**{"name": name, "examples": (GOLDEN,), **fields, **changes})


def package(name: str = "double", digest: str = "d1", fallback: Fallback | None = None, **changes) -> Package:
    """Return a package that exists only as a value."""
    promised = contract(name, **changes)
    manifest = Manifest(contract=promised, backend="python", artifact="model.py:Model", fallback=fallback)
    return Package(root=Path("/nowhere"), manifest=manifest, digest=digest, origin=Path("/nowhere"))


class FakeSink:
    """Doubles `x`, or whatever `answer` says; records what it was asked. Set `gate` to hold answers back."""

    def __init__(self, answer: Callable[[InferenceRequest], Outcome] | None = None) -> None:
        self.answer = answer or double
        self.can_stream = False
        self.mixes_rows = ""
        self.wants_context = False
        self.free = 1
        self.on_free: Callable[[], None] = lambda: None
        self.down = ""
        self.on_turn: Callable[[], None] = lambda: None
        self.now: Outcome | None = None
        self.requests: list[InferenceRequest] = []
        self.deadlines: list[Deadline] = []
        self.held: list[Callable[[], None]] = []
        self.is_holding = False
        self.asked = asyncio.Event()
        self.cancelled = 0
        self.closed = 0
        self.allowed: list[float] = []
        self.stream_closed = False

    def predict_now(self, request: InferenceRequest, deadline: Deadline) -> Outcome | None:
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def send(
        self, batch: Sequence[InferenceRequest], deadline: Deadline, done: Callable[[Sequence[Outcome]], None]
    ) -> Callable[[], None]:
        self.requests.extend(batch)
        self.asked.set()
        self.deadlines.append(deadline)
        outcomes = [self.answer(request) for request in batch]
        if self.is_holding:
            self.held.append(lambda: done(outcomes))
        else:
            asyncio.get_running_loop().call_soon(done, outcomes)
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1

    async def stream(self, request: InferenceRequest, deadline: Deadline) -> AsyncGenerator[InferenceResponse, None]:
        self.requests.append(request)
        self.deadlines.append(deadline)
        try:
            for _ in range(int(request.inputs["x"][0])):
                outcome = self.answer(request)
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome
        finally:
            self.stream_closed = True

    def allow(self, run_s: float) -> None:
        self.allowed.append(run_s)

    async def close(self) -> None:
        self.closed += 1


class FakePlacement:
    """Starts sinks when `gate` is open, and fails where the test says so."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.failure: Exception | None = None
        self.slow: dict[str, asyncio.Event] = {}
        """Models that are loaded when the test says so."""
        self.make: Callable[[], FakeSink] = FakeSink
        self.started: dict[str, FakeSink] = {}

    async def start(self, package: Package, version: str) -> Sink:
        self.entered.set()
        await self.gate.wait()
        if (slow := self.slow.get(package.manifest.contract.name)) is not None:
            await slow.wait()
        if self.failure is not None:
            raise self.failure
        self.started[version] = self.make()
        return self.started[version]


def double(request: InferenceRequest) -> InferenceResponse:
    """Return twice `x` as `y`."""
    outputs = {"y": request.inputs["x"] * np.float32(2)}
    return InferenceResponse(request.model_name, "1", outputs, request.id)


def predictor(sink: FakeSink) -> Batcher:
    """Return a sink with its queue in front, as callers know it."""
    return Batcher(sink, contract().batching)
