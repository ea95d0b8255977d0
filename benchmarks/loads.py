"""What is asked of the servers: one `Load` for each protocol and number of rows, with the way to read its answer.

A new kind of request is a function in `_MAKERS`. Called by `__main__` (the table), `compare` and `ask` (the answers).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

import msgspec
import numpy as np

from benchmarks.fraud import FEATURES, INPUT, NAME, OUTPUT, Fraud
from limen.gateway.grpc._generated import open_inference_pb2 as pb

Protocol = Literal["json", "binary", "grpc"]
PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
ROWS: Final = (1, 256)
CONNECTIONS: Final = (1, 16, 64)
PATH: Final = f"/v2/models/{NAME}/infer"
METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
LENGTH_HEADER: Final = "Inference-Header-Content-Length"


class Load(msgspec.Struct, frozen=True):
    """One request that is sent over and over, and the answer it must have."""

    protocol: Protocol
    rows: int
    body: bytes
    headers: dict[str, str]
    expected: list[float]
    is_traced: bool = False
    """Whether every request has a `traceparent` of its own, so that no two heads are alike (HTTP only)."""

    @property
    def name(self) -> str:
        """A short name for files and tables."""
        return f"{self.protocol}-{self.rows}"

    @property
    def is_grpc(self) -> bool:
        """Whether it goes to the gRPC port; to the HTTP port otherwise."""
        return self.protocol == "grpc"

    def problem(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return what is wrong with an answer, or None when it is right.

        Args:
            headers: of the HTTP answer, names in lower case.
            body: the answer's body; for gRPC the message.
        """
        got = _READERS[self.protocol](headers, body)
        if len(got) != len(self.expected):
            return f"{len(got)} numbers instead of {len(self.expected)}"
        return None if np.allclose(got, self.expected, atol=1e-5) else "other numbers than the model gives"


def loads(fraud: Fraud, *, is_traced: bool = False) -> list[Load]:
    """Return the whole table of loads, in the order of the report."""
    found = []
    for protocol, make in _MAKERS.items():
        for rows in ROWS:
            body, headers = make(fraud, rows)
            found.append(Load(protocol, rows, body, headers, fraud.probabilities[:rows], is_traced))
    return found


def _json(fraud: Fraud, rows: int) -> tuple[bytes, dict[str, str]]:
    flat = [value for row in fraud.rows[:rows] for value in row]
    tensor = {"name": INPUT, "shape": [rows, FEATURES], "datatype": "FP32", "data": flat}
    return msgspec.json.encode({"inputs": [tensor]}), {"Content-Type": "application/json"}


def _binary(fraud: Fraud, rows: int) -> tuple[bytes, dict[str, str]]:
    """The binary tensor extension in both directions, in the form Triton's client gives it."""
    blob = fraud.matrix(rows).tobytes()
    tensor = {
        "name": INPUT,
        "shape": [rows, FEATURES],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(blob)},
    }
    text = msgspec.json.encode({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    return text + blob, {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(text))}


def _grpc(fraud: Fraud, rows: int) -> tuple[bytes, dict[str, str]]:
    tensor = pb.ModelInferRequest.InferInputTensor(name=INPUT, datatype="FP32", shape=[rows, FEATURES])
    raw = [fraud.matrix(rows).tobytes()]
    message = pb.ModelInferRequest(model_name=NAME, inputs=[tensor], raw_input_contents=raw).SerializeToString()
    return framed(message), {"content-type": "application/grpc", "te": "trailers"}  # codespell:ignore te


def framed(message: bytes) -> bytes:
    """Return a message as gRPC puts it on the wire: not compressed, its length, its bytes."""
    return b"\0" + struct.pack(">I", len(message)) + message


def _read_json(_: Mapping[str, str], body: bytes) -> list[float]:
    values: list[float] = msgspec.json.decode(body)["outputs"][0]["data"]
    return values


def _read_binary(headers: Mapping[str, str], body: bytes) -> list[float]:
    length = int(headers[LENGTH_HEADER.lower()])
    output = msgspec.json.decode(body[:length])["outputs"][0]
    if output["name"] != OUTPUT or output["parameters"]["binary_data_size"] != len(body) - length:
        return []
    values: list[float] = np.frombuffer(body[length:], np.float32).tolist()
    return values


def _read_grpc(_: Mapping[str, str], body: bytes) -> list[float]:
    values: list[float] = np.frombuffer(
        pb.ModelInferResponse.FromString(body).raw_output_contents[0], np.float32
    ).tolist()
    return values


_MAKERS: Final[dict[Protocol, Callable[[Fraud, int], tuple[bytes, dict[str, str]]]]] = {
    "json": _json,
    "binary": _binary,
    "grpc": _grpc,
}
_READERS: Final[dict[Protocol, Callable[[Mapping[str, str], bytes], list[float]]]] = {
    "json": _read_json,
    "binary": _read_binary,
    "grpc": _read_grpc,
}
