"""Single requests: is a server's answer the right one? Called by `compare` before and after each measurement."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import grpc

from benchmarks.loads import METHOD, PATH, Load, framed
from benchmarks.servers import Running

TIMEOUT_S = 10.0


class WrongAnswerError(Exception):
    """A server did not give the answer that the model gives."""


def ask(server: Running, load: Load, times: int) -> int:
    """Send a load several times, one after another, and return the bytes of the answer's body.

    The same calls warm the server up: buffers, caches, and what it knows about the cost of the model.

    Raises:
        WrongAnswerError: at the first wrong answer.
    """
    size = 0
    try:
        for headers, body in (_over_grpc if load.is_grpc else _over_http)(server, load, times):
            if problem := load.problem(headers, body):
                raise WrongAnswerError(problem)
            size = len(framed(body)) if load.is_grpc else len(body)
    except grpc.RpcError as error:
        raise WrongAnswerError(f"gRPC status {error.code().name}") from error
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        raise WrongAnswerError(f"{type(error).__name__}: {error}") from error
    return size


def _over_http(server: Running, load: Load, times: int) -> Iterator[tuple[dict[str, str], bytes]]:
    connection = http.client.HTTPConnection(server.http, timeout=TIMEOUT_S)
    try:
        for _ in range(times):
            connection.request("POST", PATH, load.body, load.headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise WrongAnswerError(f"HTTP status {answer.status}")
            yield {name.lower(): value for name, value in answer.getheaders()}, body
    finally:
        connection.close()


def _over_grpc(server: Running, load: Load, times: int) -> Iterator[tuple[dict[str, str], bytes]]:
    with grpc.insecure_channel(server.grpc, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        for _ in range(times):
            # The frame around the message is h2load's to send; here the library does it.
            yield {}, call(load.body[5:], timeout=TIMEOUT_S)
