"""Reads requests that differ from an earlier one only in raw numbers, without parsing the whole message.

A ModelInferRequest with one raw input ends in the bytes of that input: everything before them says the same in every request of
a caller. Called by `service` around `codec.decode_request`.
"""

from __future__ import annotations

from typing import Final

from limen.contracts.inference import InferenceRequest
from limen.contracts.oip.outline import MAX_OUTLINES, Outline
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.oip.parameters import Options

_KEY_BYTES: Final = 48
"""With the length these tell apart the requests of different callers: a message begins with the model's name."""
_MAX_PREFIX: Final = 2048


class Outlines:
    """The requests one service has read."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        """Start with nothing known."""
        self._known: dict[tuple[int, bytes], tuple[bytes, Outline, Options]] = {}

    def recall(self, data: bytes) -> tuple[InferenceRequest, Options] | None:
        """Return the request when all but its raw input is known, byte for byte; None otherwise."""
        found = self._known.get((len(data), data[:_KEY_BYTES]))
        if found is None or not data.startswith(found[0]):
            return None
        return found[1].read(data, len(found[0])), found[2]

    def remember(self, data: bytes, message: pb.ModelInferRequest, request: InferenceRequest, options: Options) -> None:
        """Keep what is fixed in a request that was decoded, if it has one raw input and ends in it."""
        if len(message.raw_input_contents) != 1:
            return
        size = len(message.raw_input_contents[0])
        prefix = data[: len(data) - size]
        outline = Outline.of(request, size)
        if outline is None or len(prefix) > _MAX_PREFIX:
            return
        # The proof that these last bytes are the input and nothing else: other bytes in their place change it alone.
        other = pb.ModelInferRequest.FromString(prefix + bytes(size))
        if len(other.raw_input_contents) != 1 or other.raw_input_contents[0] != bytes(size):
            return
        other.raw_input_contents[0] = message.raw_input_contents[0]
        if other != message:
            return
        if len(self._known) >= MAX_OUTLINES:
            self._known.clear()
        self._known[len(data), data[:_KEY_BYTES]] = (prefix, outline, options)
