"""Reads JSON bodies that differ from an earlier one only in numbers, without decoding the rest again.

A caller who sends one flat tensor sends the same text around different numbers: everything up to `"data":`, and everything after
the list. The text is the key; what it says was decoded and checked once. Called by `gateway.http.oip.tensors`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Final

import msgspec
import numpy as np

from limen.contracts.inference import InferenceRequest, Parameter, RequestedOutput
from limen.contracts.oip.outline import MAX_OUTLINES
from limen.contracts.oip.parameters import Options

MAX_AROUND: Final = 512
"""Bytes up to which the text before and after the numbers is remembered."""
_DATA: Final = b'"data":'
_DATA_BYTES: Final = len(_DATA)
_floats = msgspec.json.Decoder(list[float]).decode
_ints = msgspec.json.Decoder(list[int]).decode


class JsonOutline(msgspec.Struct, frozen=True, gc=False):
    """What a body says apart from its numbers."""

    end: bytes
    model_name: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    decode: Callable[[bytes], list[Any]]
    pack: Callable[..., bytes]
    parameters: Mapping[str, Parameter]
    outputs: tuple[RequestedOutput, ...]
    options: Options


class JsonOutlines:
    """The bodies one worker has read."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        """Start with nothing known."""
        self._known: dict[bytes, JsonOutline] = {}

    def recall(self, body: bytes) -> tuple[InferenceRequest, Options] | None:
        """Return the request when all but its numbers is known, byte for byte, and they are good; None otherwise."""
        cut = body.find(_DATA, 0, MAX_AROUND) + _DATA_BYTES
        known = self._known.get(body[:cut])
        if known is None or not body.endswith(known.end):
            return None
        try:
            # The list is JSON of its own; packing checks how many numbers there are and that each fits.
            packed = known.pack(*known.decode(body[cut : -len(known.end)]))
        except (msgspec.MsgspecError, struct.error, OverflowError, UnicodeDecodeError):
            return None
        inputs = {known.name: np.ndarray(known.shape, known.dtype, packed)}
        request = InferenceRequest(known.model_name, inputs, "", "", known.parameters, known.outputs, is_finite=True)
        return request, known.options

    def remember(
        self, body: bytes, request: InferenceRequest, options: Options, code: str, decode: Callable[[bytes], Any]
    ) -> None:
        """Keep what is fixed in a body that was decoded, once it is proven that only one flat list is not.

        Args:
            body: the JSON text, free of repeated keys.
            request: what it was decoded to.
            options: what its parameters ask of the server.
            code: the struct code of its only input's numbers.
            decode: decodes a body of this kind.
        """
        cut = body.find(_DATA, 0, MAX_AROUND) + _DATA_BYTES
        start, end = body[:cut], body[body.find(b"]", cut) + 1 :]
        if request.id or len(request.inputs) != 1 or cut < _DATA_BYTES or len(end) > MAX_AROUND:
            return
        try:
            # The proof: with an empty list in this place the text is still a request, and its data is that list.
            empty = decode(start + b"[]" + end)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        if len(empty.inputs) != 1 or empty.inputs[0].data != []:
            return
        ((name, array),) = request.inputs.items()
        outline = JsonOutline(
            end,
            request.model_name,
            name,
            array.shape,
            array.dtype,
            _floats if array.dtype.kind == "f" else _ints,
            struct.Struct(f"<{prod(array.shape)}{code}").pack,
            request.parameters,
            request.outputs,
            options,
        )
        if len(self._known) >= MAX_OUTLINES:
            self._known.clear()
        self._known[start] = outline
