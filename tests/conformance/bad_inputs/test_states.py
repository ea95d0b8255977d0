"""B46: models that are loading, have failed or are going away; and models that fail on a request."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from limen.packaging.archive.package import Package
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.versions.lifecycle import State
from tests.conformance.bad_inputs.entries import infer_json, predict, tensor
from tests.conformance.serving.expectations import assert_right, refused
from tests.conformance.serving.gates import OPEN, WAITING
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.models import LEAK, echo, pair, patient
from tests.conformance.serving.wire import Answer


class GatedPlacement:
    """Starts `pair` at once, lets `echo-int8` wait until it is told to go on, and fails with everything else."""

    def __init__(self) -> None:
        self.inner = InlinePlacement(trust_code=True)
        self.gate = asyncio.Event()

    async def start(self, package: Package, version: str):
        if package.manifest.contract.name == "echo-int8":
            await self.gate.wait()
        elif package.manifest.contract.name not in ("pair", "patient"):
            raise RuntimeError(LEAK)
        return await self.inner.start(package, version)


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that has loaded `pair` and `patient`, failed with `echo-uint8` and is loading `echo-int8`."""
    names = [pair(tmp_path / "pair"), patient(tmp_path / "patient"), echo(tmp_path / "echo-uint8", "uint8")]
    placement = GatedPlacement()
    gateway = Gateway([*names, echo(tmp_path / "echo-int8", "int8")], placement=placement, settled=False)
    settling = gateway.start(gateway.versions.settle)
    expected = {"pair": State.READY, "patient": State.READY, "echo-uint8": State.FAILED, "echo-int8": State.LOADING}
    gateway.wait_until(lambda: all([s.state for s in gateway.versions.statuses(n)] == [x] for n, x in expected.items()))
    yield gateway
    gateway.do(placement.gate.set)
    settling.result(30)
    gateway.stop()


def ask(gateway: Gateway, name: str) -> list[Answer]:
    wire = {"echo-int8": "INT8", "echo-uint8": "UINT8"}.get(name, "FP32")
    return [infer_json(gateway, name, tensor(wire, [1, 1], [1])), predict(gateway, name, {"x": [1]})]


def paths(name: str) -> list[str]:
    return [
        f"/v2/models/{name}",
        f"/v2/models/{name}/versions/1",
        f"/v1/models/{name}/metadata",
        f"/v1/models/{name}/contract",
    ]


def test_b46_a_loading_model_is_not_ready_yet(starting: Gateway, caplog: pytest.LogCaptureFixture):
    for answer in [*ask(starting, "echo-int8"), *(starting.call("GET", p) for p in paths("echo-int8"))]:
        refused(answer, 503, "NOT_READY")
        assert int(answer.headers["retry-after"]) >= 1
    assert starting.call("GET", "/v2/models/echo-int8/ready").status == 503
    assert starting.call("GET", "/v2/health/ready").status == 503
    status = starting.call("GET", "/v1/models/echo-int8").json()["model_version_status"]
    assert [(s["version"], s["state"]) for s in status] == [("1", "LOADING")]
    assert_right(starting)


def test_b46_a_failed_model_is_not_available_and_says_nothing_of_why(starting: Gateway):
    for answer in [*ask(starting, "echo-uint8"), *(starting.call("GET", p) for p in paths("echo-uint8"))]:
        refused(answer, 503, "NOT_READY")
        assert int(answer.headers["retry-after"]) >= 1  # its package is fetched and loaded again
    assert starting.call("GET", "/v2/models/echo-uint8/ready").status == 503
    answer = starting.call("GET", "/v1/models/echo-uint8")
    assert [s["status"]["error_code"] for s in answer.json()["model_version_status"]] == ["UNAVAILABLE"]
    assert LEAK.encode() not in answer.body
    assert_right(starting)


def test_b46_a_loading_model_answers_once_it_is_ready(starting: Gateway):
    starting.do(starting.versions._placement.gate.set)
    starting.wait_until(lambda: starting.plane.directory.is_model_ready("echo-int8"))
    assert [answer.status for answer in ask(starting, "echo-int8")] == [200, 200]


def test_b46_an_unloading_model_is_gone_and_finishes_what_it_has_begun(starting: Gateway):
    OPEN.clear()
    answers: list[Answer] = []
    caller = threading.Thread(target=lambda: answers.append(predict(starting, "patient", {"x": -1})))
    caller.start()
    assert WAITING.acquire(timeout=60)
    starting.do(lambda: starting.versions.set_aspired("patient", {}))
    # It ends only with the load of another model, which has nothing to do with this one.
    starting.start(starting.versions.settle)
    try:
        starting.wait_until(lambda: [s.state for s in starting.versions.statuses("patient")] == [State.DRAINING])
        for answer in [*ask(starting, "patient"), starting.call("GET", "/v2/models/patient/ready")]:
            refused(answer, 404, "NOT_FOUND")
        assert_right(starting)
    finally:
        OPEN.set()
    caller.join(60)
    starting.wait_until(lambda: not starting.versions.statuses("patient"))
    assert [(a.status, a.json()["predictions"]) for a in answers] == [(200, [{"y": -1}])]
    refused(starting.call("GET", "/v2/models/patient"), 404, "NOT_FOUND")


@pytest.mark.parametrize("mood", [-1, -2, -3, -4, -5, -6, -7])
def test_a_model_that_fails_on_a_request_is_not_quoted(gateway: Gateway, mood: int):
    codes = ("INVALID_OUTPUT", "MODEL_FAILED")
    refused(infer_json(gateway, "moody", tensor("FP32", [1], [mood])), 500, *codes)
    refused(predict(gateway, "moody", {"x": mood}), 500, *codes)
    assert predict(gateway, "moody", {"x": 1}).json()["predictions"] == [{"y": 1}]


@pytest.mark.parametrize("told", ["grade", "pattern", "length", "chance", "class"])
def test_an_answer_outside_its_contract_is_not_given_and_not_quoted(gateway: Gateway, told: str):
    row = {"say": told, "score": 1.5 if told == "chance" else 0.5}
    error = refused(predict(gateway, "promises", row), 500, "INVALID_OUTPUT")
    assert "the model's output " in error["error"]
    assert not any(value in error["error"] for value in ("ugly", "UP", "toolong", "1.5", "7"))


def test_a_model_may_refuse_a_request_in_its_own_words(gateway: Gateway):
    error = refused(predict(gateway, "promises", {"say": "refuse", "score": 0}), 400, "REFUSED")
    assert error["error"] == "say: is older than the prices"
    assert error["details"] == [{"path": "say", "reason": "is older than the prices"}]
    error = refused(predict(gateway, "promises", {"say": "refuse all", "score": 0}), 400, "REFUSED")
    assert (error["error"], error["details"]) == ("comes at a time when nothing is sold", [])
    assert predict(gateway, "promises", {"say": "well", "score": 0}).status == 200


def test_a_model_that_answers_in_a_stream_is_not_for_these_calls(gateway: Gateway):
    refused(infer_json(gateway, "countdown", tensor("INT32", [1], [3])), 501, "UNSUPPORTED")
    refused(predict(gateway, "countdown", {"n": 3}), 501, "UNSUPPORTED")


def test_a_waiting_model_holds_up_nobody(gateway: Gateway):
    OPEN.clear()
    answers: list[Answer] = []
    caller = threading.Thread(target=lambda: answers.append(predict(gateway, "patient", {"x": -2})))
    caller.start()
    try:
        assert WAITING.acquire(timeout=60)
        assert_right(gateway)
        started = gateway.call(
            "POST", "/v1/models/patient:predict", {"instances": [{"x": 1}], "parameters": {"timeout": 100_000}}
        )
        # Shed at once if the queue is known to be too slow for it, or else when its time is up.
        assert (started.status, started.json()["code"]) in {(504, "DEADLINE_EXCEEDED"), (503, "OVERLOADED")}
    finally:
        OPEN.set()
    caller.join(60)
    assert answers[0].json()["predictions"] == [{"y": -2}]
