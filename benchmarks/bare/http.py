"""The bare handler over HTTP: OIP infer in JSON and in binary, whatever the path."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httptools
import msgspec
import numpy as np
import orjson
import simdjson

from benchmarks.bare.model import Floats, Score
from benchmarks.fraud import NAME, OUTPUT

LARGE_BODY: Final = 6144
"""Bytes from which simdjson is faster than msgspec; the same as Limen's."""
_LENGTH: Final = b"Inference-Header-Content-Length"
_JSON_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_BINARY_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"
    b"inference-header-content-length: %d\r\ncontent-length: %d\r\n\r\n"
)


class Tensor(msgspec.Struct):
    """One input of a request; `data` is absent when its bytes follow the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float] = []
    parameters: dict[str, int] = {}


class Body(msgspec.Struct):
    """An infer request."""

    inputs: list[Tensor]


_decode = msgspec.json.Decoder(Body).decode
_parser = simdjson.Parser()


def decode_json(body: bytes) -> Floats:
    """Return the tensor of a JSON body: the faster of two decoders for its size."""
    if len(body) < LARGE_BODY:
        tensor = _decode(body).inputs[0]
        return np.array(tensor.data, np.float32).reshape(tensor.shape)
    document: Any = _parser.parse(body)
    item = document["inputs"][0]
    flat = np.frombuffer(item["data"].as_buffer(of_type="d"), np.float64)
    return flat.astype(np.float32).reshape(item["shape"].as_list())


def encode_json(answer: Floats) -> bytes:
    """Return the JSON body of an answer."""
    output = {"name": OUTPUT, "datatype": "FP32", "shape": answer.shape, "data": np.ascontiguousarray(answer)}
    return orjson.dumps({"model_name": NAME, "outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY)


def decode_binary(body: bytes, json_bytes: int) -> Floats:
    """Return the tensor behind the JSON part."""
    tensor = _decode(body[:json_bytes]).inputs[0]
    return np.frombuffer(body, np.float32, offset=json_bytes).reshape(tensor.shape)


def encode_binary(answer: Floats) -> tuple[bytes, bytes]:
    """Return the JSON part of an answer and the bytes that follow it."""
    blob = answer.tobytes()
    parameters = {"binary_data_size": len(blob)}
    output = {"name": OUTPUT, "datatype": "FP32", "shape": answer.shape, "parameters": parameters}
    return orjson.dumps({"model_name": NAME, "outputs": [output]}), blob


class BareConnection(asyncio.Protocol):
    """One keep-alive connection without any limit, check or time-out."""

    def __init__(self, score: Score) -> None:
        self._score = score
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._body: list[bytes] = []
        self._json_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == _LENGTH:
            self._json_bytes = int(value)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        pieces, self._body = self._body, []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._json_bytes:
            text, blob = encode_binary(self._score(decode_binary(body, self._json_bytes)))
            self._json_bytes = 0
            head = _BINARY_HEAD % (len(text), len(text) + len(blob))
            self._transport.write(b"".join((head, text, blob)))
        else:
            text = encode_json(self._score(decode_json(body)))
            self._transport.write(_JSON_HEAD % len(text) + text)


async def serve_http(score: Score, host: str) -> tuple[asyncio.Server, int]:
    """Listen on a free port and return it with the server."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BareConnection(score), host, 0, backlog=2048)
    return server, server.sockets[0].getsockname()[1]
