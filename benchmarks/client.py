"""What `limen.client` costs on top of the libraries it uses: `python -m benchmarks client`.

The same bytes go to the same server, in this process, over httpx or grpc as they are and through the client. The ratio says what reading
forms, time limits, retries and typed answers cost.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio
import httpx
import numpy as np

from limen.client import AsyncClient
from limen.client._generated import open_inference_pb2 as pb
from limen.client.oip import LENGTH_HEADER

CALLS: Final = 300
ROUNDS: Final = 7
ROW: Final = {"x": np.zeros((1, 30), np.float32)}
RAW: Final = ROW["x"].tobytes()
HEAD: Final = (
    b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,30],"parameters":{"binary_data_size":120}}],'
    b'"parameters":{"binary_data_output":true}}'
)
ANSWER_HEAD: Final = (
    b'{"model_name":"m","model_version":"1","outputs":'
    b'[{"name":"y","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}'
)

Ask = Callable[[], Awaitable[Any]]


def main(arguments: Sequence[str]) -> int:
    """Time both ways of asking and print a line for each transport."""
    argparse.ArgumentParser(prog="python -m benchmarks client", description=__doc__).parse_args(arguments)
    asyncio.run(_measure())
    return 0


async def _measure() -> None:
    print(f"{'one row of 30 floats':<24}{'client µs':>10}{'bare µs':>10}{'ratio':>8}")
    listener = await asyncio.start_server(_answer, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    url = f"http://{host}:{port}"
    async with listener, httpx.AsyncClient(base_url=url) as bare, AsyncClient(url) as client:
        headers = {"content-type": "application/octet-stream", LENGTH_HEADER: str(len(HEAD))}
        await _compare(
            "REST, binary tensors",
            lambda: client.predict("m", ROW),
            lambda: bare.post("/v2/models/m/infer", content=HEAD + RAW, headers=headers),
        )
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_generic_rpc_handlers((_service(),))
    await server.start()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        AsyncClient(f"grpc://127.0.0.1:{port}") as client,
    ):
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 30])
        request = pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[RAW])
        await _compare("gRPC", lambda: client.predict("m", ROW), lambda: infer(request, timeout=30))
    await server.stop(0)


async def _compare(name: str, through: Ask, bare: Ask) -> None:
    """Take turns, so that what else the machine does meets both."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for i, ask in enumerate((through, bare)):
            started = time.perf_counter()
            for _ in range(CALLS):
                await ask()
            best[i] = min(best[i], (time.perf_counter() - started) / CALLS * 1e6)
    print(f"{name:<24}{best[0]:>10.1f}{best[1]:>10.1f}{best[0] / best[1]:>8.2f}", flush=True)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request of a connection with the same bytes."""
    body = ANSWER_HEAD + bytes(4)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\ninference-header-content-length: %d\r\n\r\n"
    answer = head % (len(body), len(ANSWER_HEAD)) + body
    size = len(HEAD) + len(RAW)
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(size)
            writer.write(answer)
    except asyncio.IncompleteReadError:
        writer.close()


def _service() -> grpc.GenericRpcHandler[Any, Any]:
    output = pb.ModelInferResponse.InferOutputTensor(name="y", datatype="FP32", shape=[1])
    answer = pb.ModelInferResponse(
        model_name="m", model_version="1", outputs=[output], raw_output_contents=[bytes(4)]
    ).SerializeToString()

    async def infer(_: bytes, __: object) -> bytes:
        return answer

    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
