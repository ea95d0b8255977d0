"""Triton's gRPC client."""

import queue
import sys
import threading
from functools import partial

import numpy as np
import tritonclient.grpc as kind
from harness import run
from triton_data import (
    ROWS,
    echo_inputs,
    expect_classes,
    expect_echo,
    expect_score,
    expect_state,
    score_inputs,
    tensor,
)
from tritonclient.utils import InferenceServerException

WAIT_S = 30
ENGINE = sys.argv[3]


def connected(grpc):
    return kind.InferenceServerClient(grpc)


def refused(call):
    try:
        call()
    except InferenceServerException as exc:
        return exc.status(), exc.message()
    raise AssertionError("it was not refused")


def count(n):
    return [tensor(kind, "n", np.array([n], np.int32), "INT32")]


def check_health(_, grpc):
    with connected(grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("score")
        assert client.is_model_ready("score", "1")


def check_metadata(_, grpc):
    with connected(grpc) as client:
        assert client.get_server_metadata().name == "limen"
        assert "classification" in client.get_server_metadata(as_json=True)["extensions"]
        model = client.get_model_metadata("iris", as_json=True)
        assert (model["name"], model["versions"], model["platform"]) == ("iris", ["1"], "onnx_onnxv1")
        assert model["outputs"] == [{"name": "y", "datatype": "FP32", "shape": ["-1", "3"]}]


def check_model_config(_, grpc):
    with connected(grpc) as client:
        config = client.get_model_config("iris").config
        assert (config.name, config.platform, config.backend) == ("iris", "onnx_onnxv1", "onnx")
        assert config.HasField("dynamic_batching")
        assert config.max_batch_size > 0
        told = client.get_model_config("iris", "1", as_json=True)["config"]
        assert told["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}]
        assert told["version_policy"] == {"specific": {"versions": ["1"]}}
        assert client.get_model_config("countdown").config.model_transaction_policy.decoupled
        assert refused(lambda: client.get_model_config("nothing"))[0] == "StatusCode.NOT_FOUND"


def check_models_come_and_go(_, grpc):
    with connected(grpc) as client:

        def state():
            (found,) = [m for m in client.get_model_repository_index().models if m.name == "spare"]
            return found.state, found.reason

        client.unload_model("spare")
        expect_state(state, ("UNAVAILABLE", "unloaded"))
        assert not client.is_model_ready("spare")
        client.load_model("spare")
        assert state() == ("READY", "")
        expect_score(client.infer("spare", score_inputs(kind)))
        assert refused(lambda: client.load_model("spare", config="{}"))[0] == "StatusCode.UNIMPLEMENTED"
        assert refused(lambda: client.unload_model("nothing"))[0] == "StatusCode.NOT_FOUND"


def check_statistics(_, grpc):
    with connected(grpc) as client:
        client.infer("score", score_inputs(kind))
        (found,) = client.get_inference_statistics("score", "1").model_stats
        assert (found.name, found.version) == ("score", "1")
        assert found.inference_stats.success.count > 0
        assert len(client.get_inference_statistics().model_stats) > 1


def check_log_settings(_, grpc):
    with connected(grpc) as client:
        before = client.get_log_settings(as_json=True)
        assert before["settings"]["log_error"] == {"bool_param": True}
        assert client.update_log_settings({"log_error": False}).settings["log_error"].bool_param is False
        assert client.update_log_settings({"log_error": True}, as_json=True) == before
        assert refused(lambda: client.update_log_settings({"log_file": "x"}))[0] == "StatusCode.UNIMPLEMENTED"
        assert refused(client.get_trace_settings)[0] == "StatusCode.UNIMPLEMENTED"


def check_infer(_, grpc):
    with connected(grpc) as client:
        expect_score(client.infer("score", score_inputs(kind)))
        outputs = [kind.InferRequestedOutput("score")]
        expect_score(client.infer("score", score_inputs(kind), model_version="1", outputs=outputs))


def check_every_datatype(_, grpc):
    with connected(grpc) as client:
        expect_echo(client.infer("echo", echo_inputs(kind)))


def check_classification(_, grpc):
    with connected(grpc) as client:
        outputs = [kind.InferRequestedOutput("y", class_count=2)]
        expect_classes(client.infer("iris", [tensor(kind, "x", ROWS, "FP32")], outputs=outputs))


def check_gzip(_, grpc):
    with connected(grpc) as client:
        inputs = score_inputs(kind, [10.0] * 5000, [4] * 5000)
        expect_score(client.infer("score", inputs, compression_algorithm="gzip"), [6.0] * 5000)


def check_deflate(_, grpc):
    """Of the two engines only grpcio inflates it; the other says so as the gRPC specification asks."""
    with connected(grpc) as client:
        inputs = score_inputs(kind, [10.0] * 5000, [4] * 5000)
        if ENGINE == "grpcio":
            expect_score(client.infer("score", inputs, compression_algorithm="deflate"), [6.0] * 5000)
        else:
            status, text = refused(lambda: client.infer("score", inputs, compression_algorithm="deflate"))
            assert (status, "deflate" in text) == ("StatusCode.UNIMPLEMENTED", True), text
        expect_score(client.infer("score", inputs), [6.0] * 5000)


def check_id_and_parameters(_, grpc):
    with connected(grpc) as client:
        result = client.infer(
            "score",
            score_inputs(kind),
            request_id="mine-1",
            priority=1,
            timeout=30_000_000,
            client_timeout=30,
            headers={"x-tenant": "a"},
            parameters={"tenant": "a", "depth": 3, "fast": True},
        )
        assert result.get_response(as_json=True)["id"] == "mine-1"


def check_many_at_once(_, grpc):
    answers = queue.Queue()
    with connected(grpc) as client:
        for n in range(40):
            callback = partial(lambda n, result, error: answers.put((n, result, error)), n)
            client.async_infer("score", score_inputs(kind, [n], [0]), callback)
        for _ in range(40):
            n, result, error = answers.get(timeout=WAIT_S)
            assert error is None, error
            expect_score(result, [n / 2])


def check_a_call_that_is_cancelled(_, grpc):
    ended = threading.Event()
    with connected(grpc) as client:
        call = client.async_infer("score", score_inputs(kind), lambda result, error: ended.set())
        call.cancel()
        assert ended.wait(WAIT_S)
        expect_score(client.infer("score", score_inputs(kind)))


def check_a_deadline_that_cannot_be_kept(_, grpc):
    with connected(grpc) as client:
        slow = [tensor(kind, "seconds", np.array([0.5], np.float32), "FP32")]
        status, _ = refused(lambda: client.infer("slow", slow, client_timeout=0.05))
        assert status == "StatusCode.DEADLINE_EXCEEDED", status
        # The protocol's own timeout, in microseconds, is kept by the server.
        status, text = refused(lambda: client.infer("slow", slow, timeout=50_000))
        assert (status, text[:12]) == ("StatusCode.DEADLINE_EXCEEDED", "The deadline"), text


def stream(grpc, *requests, **options):
    """Send requests on one stream and return the answers in the order they came, as (id, value, is final)."""
    answers = queue.Queue()
    with connected(grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for request_id, inputs in requests:
            client.async_stream_infer("countdown", inputs, request_id=request_id, **options)
        client.stop_stream()
    found = []
    while not answers.empty():
        result, error = answers.get()
        if error is not None:
            found.append(("error", error.message(), False))
            continue
        message = result.get_response()
        value = result.as_numpy("value")
        final = message.parameters["triton_final_response"].bool_param
        found.append((message.id, None if value is None else int(value[0]), final))
    return found


def check_a_stream(_, grpc):
    assert stream(grpc, ("a", count(3))) == [("a", 3, False), ("a", 2, False), ("a", 1, False)]


def check_a_stream_with_an_empty_final_part(_, grpc):
    found = stream(grpc, ("a", count(2)), enable_empty_final_response=True)
    assert found == [("a", 2, False), ("a", 1, False), ("a", None, True)]


def check_several_requests_on_one_stream(_, grpc):
    found = stream(grpc, ("a", count(3)), ("b", count(2)), ("c", count(1)))
    by_id = {key: [value for name, value, _ in found if name == key] for key in "abc"}
    assert by_id == {"a": [3, 2, 1], "b": [2, 1], "c": [1]}


def check_errors_in_a_stream_leave_it_open(_, grpc):
    found = stream(grpc, ("bad", count(5000)), ("good", count(1)), ("broken", count(-1)))
    assert ("good", 1, False) in found
    errors = [text for name, text, _ in found if name == "error"]
    assert len(errors) == 2, found
    assert any("n[0]: must be ≤ 1000" in text for text in errors), errors
    assert not any("secret" in text for text in errors), errors


def check_errors_as_status(_, grpc):
    answers = queue.Queue()
    with connected(grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), headers={"triton_grpc_error": "true"})
        client.async_stream_infer("countdown", count(5000))
        _, error = answers.get(timeout=WAIT_S)
        assert error.status() == "StatusCode.INVALID_ARGUMENT", error.status()
        client.stop_stream()


def check_a_stream_that_is_left(_, grpc):
    answers = queue.Queue()
    with connected(grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("countdown", count(1000))
        result, error = answers.get(timeout=WAIT_S)
        assert error is None
        assert int(result.as_numpy("value")[0]) == 1000
        client.stop_stream(cancel_requests=True)
        expect_score(client.infer("score", score_inputs(kind)))


def check_errors_say_what_is_wrong(_, grpc):
    with connected(grpc) as client:
        status, text = refused(lambda: client.infer("nothing", score_inputs(kind)))
        assert (status, "no model" in text) == ("StatusCode.NOT_FOUND", True)
        status, text = refused(lambda: client.infer("score", score_inputs(kind, [-1], [4])))
        assert (status, text) == ("StatusCode.INVALID_ARGUMENT", "amount[0]: must be ≥ 0")
        status, text = refused(lambda: client.infer("countdown", count(3)))
        assert status == "StatusCode.UNIMPLEMENTED"
        expect_score(client.infer("score", score_inputs(kind)))


if __name__ == "__main__":
    run(globals())
