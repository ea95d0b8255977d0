"""The interfaces of the runtime: `Predictor` answers requests, `Sink` takes merged batches, `Backend` loads one kind of package.

Called by `serving.dataplane.plane` (predictors), by `runtime.batching.batcher` (sinks) and by the placements (backends).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec

from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome, Parameter
from limen.contracts.tensors import Array, TensorSpec
from limen.packaging.manifest.values import Manifest

Done = Callable[[Outcome], None]
"""Takes the answer of one request; called exactly once, unless the request was cancelled before."""
Cancel = Callable[[], None]
"""Says that nobody waits any more; harmless when the answer has been given."""


class Sink(Protocol):
    """A placement as the batcher sees it: takes merged batches, one run each. Used from one event loop."""

    can_stream: bool
    """Whether one request may have several answers."""
    mixes_rows: str
    """As `LoadedModel.mixes_rows`."""
    wants_context: bool
    """As `LoadedModel.wants_context`."""
    free: int
    """How many further batches it would start to work on at once."""
    window: int
    """Batches that it takes for each copy of the model, one running and the others behind it. Raised by the batcher, at rest."""
    on_free: Callable[[], None]
    """Set by the batcher; called whenever `free` rises from 0."""
    down: str
    """Why nothing answers and nothing will soon, so that requests are refused at once; empty while that is not so."""
    on_turn: Callable[[], None]
    """Called whenever `down` has been set or cleared."""

    def predict_now(self, request: InferenceRequest, deadline: Deadline) -> Outcome | None:
        """Answer one request if that costs next to nothing, else None."""
        ...

    def send(
        self, batch: Sequence[InferenceRequest], deadline: Deadline, done: Callable[[Sequence[Outcome]], None]
    ) -> Cancel:
        """Answer requests whose tensors agree in everything but their rows, in one run if it can.

        Never raises. `done` is called exactly once with one outcome each, in order; never before `send` has returned. A request
        that breaks the run fails alone. Work is not begun after `deadline` (the latest of the batch).
        """
        ...

    def stream(self, request: InferenceRequest, deadline: Deadline) -> AsyncGenerator[InferenceResponse, None]:
        """Yield the parts of one answer; raise `LimenError` when it breaks off. Closing it early ends the model's work."""
        ...

    def allow(self, run_s: float) -> None:
        """Reckon with runs that take up to so many seconds before anything is taken for hung; replaces what was said before."""
        ...

    async def close(self) -> None:
        """Give back what it holds; idempotent."""
        ...


class Predictor(Protocol):
    """Something that answers requests: a batcher in front of a placement.

    One bad request cannot fail its neighbours, and cancelling a caller does not affect the others of its batch.
    """

    can_stream: bool
    """Whether one request may have several answers."""
    merges: bool
    """Whether requests of several callers may share a run."""

    @property
    def mixes_rows(self) -> str:
        """As `LoadedModel.mixes_rows`."""
        ...

    @property
    def down(self) -> str:
        """As `Sink.down`."""
        ...

    def keep_apart(self) -> None:
        """Run every request by itself from now on."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that no batch has taken yet."""
        ...

    @property
    def waiting_rows(self) -> int:
        """Their rows."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests in a batch."""
        ...

    def expected_wait_s(self) -> float:
        """Return what a request that comes now is expected to wait, in seconds."""
        ...

    def predict_now(self, request: InferenceRequest, deadline: Deadline) -> Outcome | None:
        """Answer one request if that costs next to nothing, else None: the caller then submits it."""
        ...

    def submit(self, request: InferenceRequest, deadline: Deadline, done: Done) -> Cancel:
        """Have a request answered by `deadline`; `done` gets the answer or the error. Never raises."""
        ...

    async def predict(self, request: InferenceRequest, deadline: Deadline) -> Outcome:
        """Submit a request and return its answer or error; cancelling this cancels the request."""
        ...

    def stream(self, request: InferenceRequest, deadline: Deadline) -> AsyncGenerator[InferenceResponse, None]:
        """Yield the parts of one answer; raise `LimenError` when it breaks off. Closing it early ends the model's work."""
        ...

    async def close(self) -> None:
        """Give back what it holds; idempotent."""
        ...


class Signature(msgspec.Struct, frozen=True):
    """The artifact's own tensors, as its file declares them. Shapes include the batch axis as -1."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    left_out: tuple[str, ...] = ()
    """Outputs of the artifact that contracts cannot express, each in words with its name."""


class LoadedModel(Protocol):
    """One artifact in memory. Blocking; one call at a time unless the backend says otherwise."""

    signature: Signature
    """The artifact's tensors; empty tuples when it does not declare any (Python classes)."""
    can_stream: bool
    """Whether `stream` gives more than one part."""
    wants_context: bool
    """Whether it asks about the request it answers, so that each has a run of its own (`runtime.context`)."""
    mixes_rows: str
    """Why rows of one run change each other's answers, where the artifact itself says so; empty otherwise."""

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Run the artifact on its own tensors (batch first) and return its own output tensors by name."""
        ...

    def stream(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> Iterator[dict[str, Array]]:
        """Run the artifact and yield its output tensors part by part; one part when it cannot stream."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Backend(Protocol):
    """Loads one kind of package. Runs inside the placement; blocking is allowed.

    Raises `InvalidPackage` when the artifact cannot be loaded: a missing file, a wrong format, an unsafe type, or a
    library that is not installed (with the extra to install). A foreign exception's text goes to the log only.

    A backend may also have a method `prepare()`: import its libraries, and set up what all models of a process share. It is called once
    in a process that replicas are forked from, so it starts no thread, opens no device and loads nothing of a package. A backend without
    it imports its libraries in each replica.
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    """The names `packaging.formats.sniff` gives to the file formats this backend loads."""

    def load(self, path: Path, manifest: Manifest) -> LoadedModel:
        """Load the artifact of the package folder `path`."""
        ...

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read the artifact's tensors without a manifest, for `limen init`; `sample` holds columns of example data."""
        ...
