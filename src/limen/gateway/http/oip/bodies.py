"""The JSON body of an infer call for the typed decoder. Unknown fields are refused, and null equals omission.

Source: Open Inference Protocol (REST). Read by `gateway.http.oip.tensors`.
"""

from __future__ import annotations

from typing import Any

import msgspec

Parameters = dict[str, str | bool | int | float | None]
Optional = msgspec.UnsetType | None
"""A key that is left out, or null because a client writes all the keys it has."""


class JsonInput(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One input tensor of a JSON body."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: Parameters | Optional = msgspec.UNSET


class JsonOutput(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One requested output of a JSON body."""

    name: str
    parameters: Parameters | Optional = msgspec.UNSET


class JsonBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A whole infer body, or its JSON part."""

    inputs: list[JsonInput]
    outputs: list[JsonOutput] | Optional = msgspec.UNSET
    id: str | Optional = msgspec.UNSET
    parameters: Parameters | Optional = msgspec.UNSET
    model_name: str | Optional = msgspec.UNSET
    """KServe's client names the model here as well as in the path."""
