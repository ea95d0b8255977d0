"""The two seams of the runtime: `Predictor`, which answers batches, and `Backend`, which loads one kind of package.

Called by `serving.dataplane` (predictors) and by the placements (backends).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec

from limen.contracts.inference import Deadline, InferenceRequest, InferenceResponse, Outcome, Parameter
from limen.contracts.tensors import Array, TensorSpec
from limen.packaging.manifest import Manifest


class Predictor(Protocol):
    """Something that answers batches: a batcher, a placement or a loaded model.

    Outcomes keep the order and length of the batch; each is a response or an error, so one bad row cannot fail its
    neighbours. Cancelling a caller must not affect other members of its batch.
    """

    can_stream: bool
    """Whether one request may have several answers."""

    def predict_now(self, request: InferenceRequest, deadline: Deadline) -> Outcome | None:
        """Answer one request if that costs next to nothing, else None: the caller then awaits `predict`."""
        ...

    async def predict(self, batch: Sequence[InferenceRequest], deadline: Deadline) -> Sequence[Outcome]:
        """Answer every request of the batch by `deadline`."""
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


class LoadedModel(Protocol):
    """One artifact in memory. Blocking; one call at a time unless the backend says otherwise."""

    signature: Signature
    """The artifact's tensors; empty tuples when it does not declare any (Python classes)."""
    can_stream: bool
    """Whether `stream` gives more than one part."""

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
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    """The names `packaging.sniff` gives to the file formats this backend loads."""

    def load(self, path: Path, manifest: Manifest) -> LoadedModel:
        """Load the artifact of the package folder `path`."""
        ...

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Read the artifact's tensors without a manifest, for `limen init`; `sample` holds columns of example data."""
        ...
