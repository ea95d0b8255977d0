"""The ways into the server that carry a body, so that one case runs through all of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tests.conformance.serving.expectations import GOOD
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.wire import JSON, Answer

LENGTH = "inference-header-content-length"
OCTETS = {"content-type": "application/octet-stream"}
PADDING = {"padding": "x" * 8192}
"""A parameter that makes a body large enough for the gateway's second JSON reader."""


class Entry:
    """One path and a good JSON text for it; `tail` is what follows the text in a binary body."""

    def __init__(self, name: str, path: str, good: Any, tail: bytes | None = None) -> None:
        self.name = name
        self.path = path
        self.value = good
        self.good = json.dumps(good).encode()
        self.tail = tail

    def __repr__(self) -> str:
        return self.name

    def send(self, gateway: Gateway, text: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a text in place of the good one."""
        return gateway.call("POST", self.path, self.body(text), {**self.headers(text), **(headers or {})})

    def body(self, text: bytes) -> bytes:
        return text + (self.tail or b"")

    def headers(self, text: bytes) -> dict[str, str]:
        return JSON if self.tail is None else {**OCTETS, LENGTH: str(len(text))}

    def is_binary(self) -> bool:
        return self.tail is not None


def tensor(datatype: str, shape: Sequence[Any], data: Any, name: str = "x") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data}


def vector(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": size}}


JSON_INFER = Entry("infer", "/v2/models/pair/infer", GOOD)
LARGE_INFER = Entry(
    "large infer",
    "/v2/models/pair/infer",
    {"inputs": [tensor("FP32", [1, 2], [1.5, 2], "a"), tensor("FP32", [1, 2], [0.25, -2], "b")], "parameters": PADDING},
)
BINARY_INFER = Entry(
    "binary infer",
    "/v2/models/pair/infer",
    {"inputs": [vector("a", 8), vector("b", 8)]},
    struct.pack("<4f", 1.5, 2, 0.25, -2),
)
PREDICT = Entry("predict", "/v1/models/pair:predict", {"instances": [{"a": [1.5, 2], "b": [0.25, -2]}]})
ENTRIES = (JSON_INFER, LARGE_INFER, BINARY_INFER, PREDICT)


def infer_json(gateway: Gateway, model: str, *tensors: Any, **rest: Any) -> Answer:
    """Send an inference request in JSON."""
    return gateway.call("POST", f"/v2/models/{model}/infer", {"inputs": list(tensors), **rest})


def infer_raw(
    gateway: Gateway, model: str, *tensors: tuple[str, str, Sequence[int], bytes], tail: bytes = b"", **rest: Any
) -> Answer:
    """Send an inference request whose tensors (name, datatype, shape, bytes) are binary; `tail` is too much."""
    inputs = [
        {"name": n, "datatype": d, "shape": list(s), "parameters": {"binary_data_size": len(b)}}
        for n, d, s, b in tensors
    ]
    text = json.dumps({"inputs": inputs, **rest}).encode()
    body = text + b"".join(b for *_, b in tensors) + tail
    return gateway.call("POST", f"/v2/models/{model}/infer", body, {**OCTETS, LENGTH: str(len(text))})


def predict(gateway: Gateway, model: str, *rows: Any, **rest: Any) -> Answer:
    """Send records."""
    return gateway.call("POST", f"/v1/models/{model}:predict", {"instances": list(rows), **rest})


def elements(*values: bytes) -> bytes:
    """Return BYTES elements as they travel: each with its length in front."""
    return b"".join(struct.pack("<I", len(v)) + v for v in values)


def short(value: Any) -> str:
    """Return a test id for a value of any kind."""
    text = ascii(value)
    return text if len(text) <= 24 else f"{text[:20]}~{len(text)}"
