"""The parameter `content_type`, with which MLServer clients annotate tensors.

Most of them name how the client made the tensor, which changes nothing about its values. `base64` does: the elements are Base64 text
for what is meant. Used by both gateways. Source: MLServer, "Content Types (and Codecs)".
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import numpy as np

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array

PLAIN: Final = ("np", "pd", "str")
BASE64: Final = "base64"
MAY_BE_NULL: Final = frozenset({"content_type", "headers"})
"""Parameters that these clients write with or without a value."""


def is_base64_content(value: Parameter, path: str) -> bool:
    """Return whether a content type says that the elements are Base64 text.

    Raises:
        InvalidArgument: it is one whose values this server would take for something else.
    """
    if value not in (*PLAIN, BASE64):
        text = f"must be one of {', '.join((*PLAIN, BASE64))}"
        raise InvalidArgument.at(f"{path}.parameters.content_type", text, Reason.INVALID_PARAMETER)
    return value == BASE64


def from_base64(array: Array, path: str) -> Array:
    """Return the bytes that a BYTES tensor of Base64 text stands for.

    Raises:
        InvalidArgument: the tensor holds no text, or an element is not Base64.
    """
    if array.dtype.kind != "O":
        raise InvalidArgument.at(path, "content type base64 is for BYTES only", Reason.DTYPE)
    found = np.empty(array.size, object)
    for i, value in enumerate(array.flat):
        try:
            found[i] = None if value is None else base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidArgument.at(f"{path}[{i}]", "must be base64 text", Reason.VALUE) from None
    return found.reshape(array.shape)
