"""Triton's HTTP client."""

import numpy as np
import tritonclient.http as kind
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


def connected(http, **options):
    return kind.InferenceServerClient(http, **options)


def refused(call, *words):
    try:
        call()
    except InferenceServerException as exc:
        assert all(word in exc.message() for word in words), exc.message()
        return exc
    raise AssertionError("it was not refused")


def check_health(http, _):
    with connected(http) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("score")
        assert client.is_model_ready("score", "1")
        assert not client.is_model_ready("nothing")
        assert not client.is_model_ready("score", "2")


def check_metadata(http, _):
    with connected(http) as client:
        server = client.get_server_metadata()
        assert server["name"] == "limen"
        assert {"classification", "parameters", "binary_tensor_data"} <= set(server["extensions"])
        model = client.get_model_metadata("iris")
        assert (model["name"], model["versions"], model["platform"]) == ("iris", ["1"], "onnx_onnxv1")
        assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert client.get_model_metadata("iris", "1") == model


def check_model_config(http, _):
    with connected(http) as client:
        config = client.get_model_config("iris")
        assert (config["name"], config["platform"], config["backend"]) == ("iris", "onnx_onnxv1", "onnx")
        assert [(i["name"], i["data_type"], i["dims"]) for i in config["input"]] == [("x", "TYPE_FP32", [4])]
        assert config["max_batch_size"] > 0
        assert not config["model_transaction_policy"]["decoupled"]
        assert client.get_model_config("iris", "1") == config
        assert client.get_model_config("countdown")["model_transaction_policy"]["decoupled"]
        refused(lambda: client.get_model_config("nothing"), "no model")


def check_models_come_and_go(http, _):
    with connected(http, network_timeout=60) as client:
        index = {m["name"]: m["state"] for m in client.get_model_repository_index()}
        assert index["iris"] == index["spare"] == "READY"
        client.unload_model("spare")
        expect_state(lambda: state_of(client), ("UNAVAILABLE", "unloaded"))
        assert not client.is_model_ready("spare")
        assert client.is_server_ready()
        client.load_model("spare")
        assert state_of(client) == ("READY", "")
        expect_score(client.infer("spare", score_inputs(kind)))
        client.unload_model("spare", unload_dependents=True)
        client.load_model("spare")
        refused(lambda: client.load_model("spare", config="{}"), "no configuration")
        refused(lambda: client.load_model("nothing"), "no model")


def state_of(client):
    (found,) = [m for m in client.get_model_repository_index() if m["name"] == "spare"]
    return found["state"], found["reason"]


def check_statistics(http, _):
    with connected(http) as client:
        client.infer("score", score_inputs(kind))
        (found,) = client.get_inference_statistics("score", "1")["model_stats"]
        assert (found["name"], found["version"]) == ("score", "1")
        assert found["inference_stats"]["success"]["count"] > 0
        assert len(client.get_inference_statistics()["model_stats"]) > 1


def check_log_settings(http, _):
    with connected(http) as client:
        before = client.get_log_settings()
        assert (before["log_info"], before["log_error"]) == (False, True)
        assert client.update_log_settings({"log_info": True})["log_info"]
        assert client.update_log_settings({"log_info": False}) == before
        refused(lambda: client.update_log_settings({"log_file": "somewhere"}), "read-only")
        refused(client.get_trace_settings, "not offered")


def check_json_both_ways(http, _):
    with connected(http) as client:
        outputs = [kind.InferRequestedOutput("score", binary_data=False)]
        result = client.infer("score", score_inputs(kind, binary_data=False), outputs=outputs)
        expect_score(result)
        assert result.get_output("score")["data"] == [6, 12]


def check_binary_both_ways(http, _):
    with connected(http) as client:
        outputs = [kind.InferRequestedOutput("score", binary_data=True)]
        result = client.infer("score", score_inputs(kind), outputs=outputs)
        expect_score(result)
        assert result.get_output("score")["parameters"] == {"binary_data_size": 8}


def check_mixed_inputs_and_no_outputs_named(http, _):
    with connected(http) as client:
        amount, _ = score_inputs(kind, binary_data=True)
        _, age = score_inputs(kind, binary_data=False)
        expect_score(client.infer("score", [age, amount]))


def check_every_datatype_binary(http, _):
    with connected(http) as client:
        expect_echo(client.infer("echo", echo_inputs(kind)))


def check_texts_as_json(http, _):
    with connected(http) as client:
        text = np.array([["", "grüße ✓"]], object)
        outputs = [kind.InferRequestedOutput("string_out", binary_data=False)]
        result = client.infer("echo", [tensor(kind, "string_in", text, binary_data=False)], outputs=outputs)
        assert result.get_output("string_out")["data"] == ["", "grüße ✓"]


def check_classification(http, _):
    with connected(http) as client:
        for binary in (True, False):
            outputs = [kind.InferRequestedOutput("y", binary_data=binary, class_count=2)]
            result = client.infer("iris", [tensor(kind, "x", ROWS, "FP32")], outputs=outputs)
            expect_classes(result) if binary else None
            assert result.get_output("y")["shape"] == [2, 2]


def check_compression(http, _):
    with connected(http) as client:
        amounts = [10.0] * 500
        inputs = score_inputs(kind, amounts, [4] * 500)
        for algorithm in ("gzip", "deflate"):
            result = client.infer(
                "score",
                inputs,
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            expect_score(result, [6.0] * 500)


def check_id_version_and_parameters(http, _):
    with connected(http) as client:
        result = client.infer(
            "score",
            score_inputs(kind),
            model_version="1",
            request_id="mine-1",
            priority=1,
            timeout=30_000_000,
            parameters={"tenant": "a", "depth": 3, "fast": True, "share": 0.5},
            headers={"X-Request-Timeout-Ms": "30000"},
        )
        answer = result.get_response()
        assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine-1", "score", "1")


def check_many_at_once(http, _):
    with connected(http, concurrency=8) as client:
        waiting = [client.async_infer("score", score_inputs(kind, [n], [0]), request_id=f"r{n}") for n in range(40)]
        for n, answer in enumerate(waiting):
            result = answer.get_result()
            expect_score(result, [n / 2])
            assert result.get_response()["id"] == f"r{n}"


def check_body_made_and_read_by_the_client(http, _):
    import urllib.request

    body, size = kind.InferenceServerClient.generate_request_body(score_inputs(kind))
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(size)}
    request = urllib.request.Request(f"http://{http}/v2/models/score/infer", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        length = int(answer.headers["Inference-Header-Content-Length"])
        result = kind.InferenceServerClient.parse_response_body(answer.read(), header_length=length)
    expect_score(result)


def check_a_deadline_that_cannot_be_kept(http, _):
    with connected(http) as client:
        slow = [tensor(kind, "seconds", np.array([0.5], np.float32), "FP32")]
        assert refused(lambda: client.infer("slow", slow, timeout=50_000), "deadline").status() == "504"
        assert refused(lambda: client.infer("slow", slow, headers={"X-Request-Timeout-Ms": "50"})).status() == "504"


def check_errors_say_what_is_wrong(http, _):
    with connected(http) as client:
        assert refused(lambda: client.infer("nothing", score_inputs(kind)), "no model").status() == "404"
        few = [tensor(kind, "x", ROWS[:, :3], "FP32")]
        assert refused(lambda: client.infer("iris", few), "x", "shape").status() == "400"
        bad = score_inputs(kind, [-1], [4])
        assert "amount[0]: must be ≥ 0" in refused(lambda: client.infer("score", bad)).message()
        stream = [tensor(kind, "n", np.array([3], np.int32), "INT32")]
        assert refused(lambda: client.infer("countdown", stream), "stream").status() == "501"
        refused(lambda: client.get_model_metadata("nothing"), "no model")
        expect_score(client.infer("score", score_inputs(kind)))


if __name__ == "__main__":
    run(globals())
