"""How `limen serve` ends: on a signal, with every answer it owes."""

import signal
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import httpx
import pytest

from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc._generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.services import plain_http
from tests.services.gate import Gate, gate_in
from tests.services.packages import write_gate, write_score
from tests.services.process import WAIT_S, serving


def ask_http(base: str, gate: Gate) -> httpx.Response:
    url = f"{base}/v1/models/gate:predict"
    return plain_http.post(url, json={"instances": [{"socket": str(gate.path)}]}, timeout=WAIT_S)


def ask_grpc(address: str, gate: Gate) -> pb.ModelInferResponse:
    request = pb.ModelInferRequest(model_name="gate")
    tensor = request.inputs.add(name="socket", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(str(gate.path).encode())
    with grpc.insecure_channel(address) as channel:
        return GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=WAIT_S)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_requests_in_flight_are_answered_before_the_server_ends(tmp_path, number, workers):
    package = write_gate(tmp_path / "gate")
    options = ("--trust-code", "--workers", workers)
    with (
        serving(package, *options, announcement=tmp_path / "a.json") as server,
        ThreadPoolExecutor(1) as threads,
        gate_in(tmp_path) as gate,
    ):
        rest: Future[httpx.Response] = threads.submit(ask_http, str(server.http.base_url), gate)
        gate.wait_for_request()
        server.process.send_signal(number)
        _wait_until_closed(server.announced["http"])
        gate.open()
        answer = rest.result(WAIT_S)
        assert (answer.status_code, answer.json()["predictions"]) == (200, [{"answer": "done"}])
        assert server.ended() == (0, "")


def test_a_grpc_request_in_flight_is_answered_too(tmp_path):
    package = write_gate(tmp_path / "gate")
    with (
        serving(package, "--trust-code", announcement=tmp_path / "a.json") as server,
        ThreadPoolExecutor(1) as threads,
        gate_in(tmp_path) as gate,
    ):
        rpc = threads.submit(ask_grpc, server.grpc, gate)
        gate.wait_for_request()
        server.process.send_signal(signal.SIGTERM)
        _wait_until_closed(server.announced["http"])
        gate.open()
        assert rpc.result(WAIT_S).outputs[0].name == "answer"
        assert server.ended() == (0, "")


def test_a_second_signal_ends_at_once(tmp_path):
    package = write_gate(tmp_path / "gate")
    with (
        serving(package, "--trust-code", announcement=tmp_path / "a.json") as server,
        ThreadPoolExecutor(1) as threads,
        gate_in(tmp_path) as gate,
    ):
        rest = threads.submit(ask_http, str(server.http.base_url), gate)
        gate.wait_for_request()
        server.process.send_signal(signal.SIGINT)
        _wait_until_closed(server.announced["http"])
        status, err = server.stop(signal.SIGINT)
        assert (status, err) == (130, "")
        with pytest.raises(httpx.RemoteProtocolError):
            rest.result(WAIT_S)


def test_an_idle_connection_and_a_busy_one_see_no_broken_answer(tmp_path):
    """Callers hammer the server while it stops: every answer that begins is whole and right."""
    with serving(write_score(tmp_path / "score"), announcement=tmp_path / "a.json") as server:
        base = str(server.http.base_url)
        idle = plain_http.Client(base_url=base, timeout=WAIT_S)
        assert idle.get("/v2/health/ready").status_code == 200
        answered: list[int] = []
        broken: list[str] = []
        begun = threading.Barrier(4)

        def hammer() -> None:
            count = 0
            with plain_http.Client(base_url=base, timeout=WAIT_S) as client:
                while True:
                    try:
                        answer = client.post("/v1/models/score:predict", json={"instances": [{"amount": 10, "age": 4}]})
                    except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                        # Closed between two answers, which a stopping server may do.
                        break
                    if answer.status_code != 200 or answer.json()["predictions"] != [{"score": 6.0}]:
                        broken.append(answer.text)
                    count += 1
                    if count == 20:
                        begun.wait(WAIT_S)
            answered.append(count)

        callers = [threading.Thread(target=hammer) for _ in range(3)]
        for caller in callers:
            caller.start()
        begun.wait(WAIT_S)
        status, err = server.stop()
        for caller in callers:
            caller.join(WAIT_S)
        idle.close()
    assert (status, err, broken) == (0, "", [])
    assert len(answered) == 3
    assert min(answered) >= 20


def test_a_stream_in_flight_ends_with_its_last_part(tmp_path):
    package = write_gate(tmp_path / "gate")
    with (
        serving(package, "--trust-code", announcement=tmp_path / "a.json") as server,
        ThreadPoolExecutor(1) as threads,
        gate_in(tmp_path) as gate,
    ):

        def stream() -> list[str]:
            request = pb.ModelInferRequest(model_name="gate")
            tensor = request.inputs.add(name="socket", datatype="BYTES", shape=[1])
            tensor.contents.bytes_contents.append(str(gate.path).encode())
            with grpc.insecure_channel(server.grpc) as channel:
                parts = GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([request]), timeout=WAIT_S)
                return [part.infer_response.outputs[0].name for part in parts]

        parts = threads.submit(stream)
        gate.wait_for_request()
        server.process.send_signal(signal.SIGTERM)
        _wait_until_closed(server.announced["http"])
        gate.open()
        assert parts.result(WAIT_S) == ["answer"]
        assert server.ended() == (0, "")


def _wait_until_closed(address: str) -> None:
    """Return once nothing accepts connections there any more: the server is stopping."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            with socket.create_connection((host, int(port)), timeout=WAIT_S) as tried:
                tried.recv(1)  # closed by the server as it stops, at the latest
        except OSError:
            return
