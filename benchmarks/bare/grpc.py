"""The bare handler over gRPC: ModelInfer with raw contents on the native engine."""

from __future__ import annotations

import importlib
from typing import Any

import grpc
import numpy as np

from benchmarks.bare.model import Floats, Score
from benchmarks.fraud import NAME, OUTPUT
from limen.gateway.grpc._generated import open_inference_pb2 as pb

SERVICE = "inference.GRPCInferenceService"


def answer(score: Score, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """Return the answer to a request that is taken by its word."""
    features = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape[:])
    return encode(score(features))


def encode(probabilities: Floats) -> pb.ModelInferResponse:
    """Return the message of an answer."""
    output = pb.ModelInferResponse.InferOutputTensor(name=OUTPUT, datatype="FP32", shape=probabilities.shape)
    return pb.ModelInferResponse(model_name=NAME, outputs=[output], raw_output_contents=[probabilities.tobytes()])


async def serve_grpc(score: Score, host: str) -> tuple[Any, int]:
    """Listen on a free port and return it with the server."""

    async def infer(request: pb.ModelInferRequest, _: Any) -> pb.ModelInferResponse:
        return answer(score, request)

    # By its full name: `from pygrpc_native import aio` never returns.
    server = importlib.import_module("pygrpc_native.aio").Server(io_threads=1)
    method = grpc.unary_unary_rpc_method_handler(
        infer,
        request_deserializer=pb.ModelInferRequest.FromString,
        response_serializer=pb.ModelInferResponse.SerializeToString,
    )
    server.add_registered_method_handlers(SERVICE, {"ModelInfer": method})
    port = server.add_insecure_port(f"{host}:0")
    await server.start()
    return server, port
