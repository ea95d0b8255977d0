"""The interface between a client and its transport, which knows nothing of forms, retries or time limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

import msgspec

from limen.client.forms import Record, Signature, TensorType
from limen.client.retries import Attempt
from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array

FALLBACK: str = "limen_fallback"
"""The response parameter that marks an answer of the declared fallback."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One request: rows or tensors for an endpoint."""

    endpoint: str
    """A name, or `NAME@ALIAS`."""
    version: str
    """A number, or empty."""
    request_id: str
    parameters: Mapping[str, Parameter]
    outputs: tuple[str, ...]
    """Names of the outputs that are wanted; all when empty."""
    rows: Sequence[Record] | None = None
    tensors: dict[str, Array] | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: rows or tensors, with text still as bytes."""

    model: str
    version: str
    request_id: str
    is_fallback: bool = False
    rows: list[dict[str, object]] | None = None
    tensors: dict[str, Array] | None = None


class Transport(Protocol):
    """One way to reach a server. Everything raises `LimenError` only."""

    takes_rows: bool
    """Whether rows can be sent as they are; elsewhere they have to become tensors."""
    streams_rows: bool
    """Whether a stream is asked with rows; elsewhere with tensors."""

    async def ask(self, question: Question, attempt: Attempt) -> Reply:
        """Return the answer to a question."""
        ...

    def stream(self, question: Question, attempt: Attempt) -> AsyncGenerator[Reply, None]:
        """Yield the parts of an answer as they come; closing it tells the server to stop."""
        ...

    async def signature(self, endpoint: str, version: str, request_id: str, attempt: Attempt) -> Signature:
        """Return what goes in and what comes out."""
        ...

    async def is_ready(self, endpoint: str, version: str, attempt: Attempt) -> bool:
        """Return whether an endpoint answers; the server as a whole when no endpoint is named."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class Metadata(msgspec.Struct):
    """OIP's model metadata, as far as a client needs it."""

    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    properties: dict[str, str] = {}

    def signature(self) -> Signature:
        """Return the tensors by name, text told from bytes as far as the server says which is which."""
        inputs, outputs = self._by_field(self.inputs, "input"), self._by_field(self.outputs, "output")
        return Signature(inputs=inputs, outputs=outputs, is_batched=self.properties.get("batching") != "none")

    def _by_field(self, tensors: Sequence[TensorType], side: str) -> dict[str, TensorType]:
        said = (
            frozenset(self.properties.get(f"{what}_{side}s", "").split(",")) for what in ("text", "nullable", "json")
        )
        texts, gaps, jsons = said
        renamed = self.properties.get(f"{side}_fields")
        fields = msgspec.json.decode(renamed, type=dict[str, str]) if renamed else {}
        return {
            fields.get(t.name, t.name): msgspec.structs.replace(
                t, is_text=t.name in texts, is_nullable=t.name in gaps, is_json=t.name in jsons
            )
            for t in tensors
        }
