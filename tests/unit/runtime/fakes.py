"""A placement whose predictors do what a test asks: it loads without a model and answers by script."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import numpy as np

from limen.contracts.contract import Contract, Example, Field
from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome
from limen.packaging.archive import Package
from limen.packaging.manifest import Manifest
from limen.runtime.predictor import Predictor

GOLDEN = Example(name="golden", inputs={"x": 2.0}, outputs={"y": 4.0})


def contract(name: str = "double", **changes) -> Contract:
    """Return the contract of a model that doubles a number."""
    fields = {"inputs": (Field(name="x", type="float32"),), "outputs": (Field(name="y", type="float32"),)}
    return Contract(**{"name": name, "examples": (GOLDEN,), **fields, **changes})


def package(name: str = "double", digest: str = "d1", **changes) -> Package:
    """Return a package that exists only as a value."""
    manifest = Manifest(contract=contract(name, **changes), backend="python", artifact="model.py:Model")
    return Package(root=Path("/nowhere"), manifest=manifest, digest=digest, origin=Path("/nowhere"))


class FakePredictor:
    """Doubles `x`, or whatever `answer` says; records what it was asked."""

    def __init__(self, answer: Callable[[InferenceRequest], Outcome] | None = None) -> None:
        self.answer = answer or double
        self.can_stream = False
        self.now: Outcome | None = None
        self.requests: list[InferenceRequest] = []
        self.deadlines: list[Deadline] = []
        self.closed = 0
        self.stream_closed = False

    def predict_now(self, request: InferenceRequest, deadline: Deadline) -> Outcome | None:
        return self.now

    async def predict(self, batch: Sequence[InferenceRequest], deadline: Deadline) -> Sequence[Outcome]:
        self.requests.extend(batch)
        self.deadlines.append(deadline)
        return [self.answer(request) for request in batch]

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

    async def close(self) -> None:
        self.closed += 1


class FakePlacement:
    """Starts predictors when `gate` is open, and fails where the test says so."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.failure: Exception | None = None
        self.make: Callable[[], FakePredictor] = FakePredictor
        self.started: dict[str, FakePredictor] = {}

    async def start(self, package: Package, version: str) -> Predictor:
        self.entered.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.started[version] = self.make()
        return self.started[version]


def double(request: InferenceRequest) -> InferenceResponse:
    """Return twice `x` as `y`."""
    outputs = {"y": request.inputs["x"] * np.float32(2)}
    return InferenceResponse(request.model_name, "1", outputs, request.id)
