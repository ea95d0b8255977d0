"""Answers in several parts over HTTP: order, flushing, errors, leaving, slow readers and stopping."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limen.gateway.engine.config import HttpLimits
from tests.conformance.serving.expectations import assert_logged, assert_right, refused
from tests.conformance.serving.gates import CLOSED, MADE, STEP
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.models import flood, pair, steps
from tests.conformance.serving.wire import JSON, Answer, Wire, request

EVENTS = "text/event-stream; charset=utf-8"
LIVE = request("GET", "/v2/health/live")
ROUTES = ["/v1/models/{m}:stream", "/v2/models/{m}/generate_stream"]
END = b"event: end\ndata: {}\n\n"


@pytest.fixture(autouse=True)
def still_right(gateway: Gateway) -> Iterator[None]:
    for gate in (STEP, MADE, CLOSED):
        while gate.acquire(blocking=False):
            pass
    yield
    assert_right(gateway)


def ask(route: str, model: str, inputs: dict[str, Any], **options: Any) -> bytes:
    """Return the request of one record on one of the two streaming paths."""
    body = {"instances": [inputs]} if route.endswith(":stream") else inputs
    return request("POST", route.replace("{m}", model), json.dumps(body).encode(), {**JSON, **options})


def events(body: bytes) -> list[tuple[str, Any]]:
    """Return each event's name and data."""
    found = []
    assert body.endswith(b"\n\n")
    for block in body[:-2].split(b"\n\n"):
        lines = [line.partition(": ")[::2] for line in block.decode().split("\n")]
        fields = dict(lines)
        assert len(fields) == len(lines)
        assert set(fields) <= {"event", "data"}
        found.append((fields.get("event", ""), json.loads(fields["data"])))
    return found


def values(answer: Answer) -> list[Any]:
    """Return the values of y in a whole stream that ended well."""
    assert (answer.status, answer.headers["content-type"]) == (200, EVENTS), answer
    found = events(answer.body)
    if found[-1] == ("end", {}):
        found = found[:-1]
    assert {name for name, _ in found} <= {""}
    return [data["y"] if "y" in data else data["predictions"][0]["y"] for _, data in found]


def let_go_on(parts: int) -> None:
    """Let a stepwise model make so many further parts."""
    for _ in range(parts):
        STEP.release()


@pytest.mark.parametrize("route", ROUTES)
def test_a_part_arrives_before_the_next_is_made(gateway: Gateway, route: str):
    with gateway.wire() as wire:
        head = wire.send(ask(route, "steps", {"n": 3})).head()
        assert (head.status, head.headers["transfer-encoding"]) == (200, "chunked")
        assert head.headers["content-type"] == EVENTS
        assert "content-length" not in head.headers
        for value in range(3):
            (event,) = events(wire.chunk())
            assert event[1].get("y", value) == value
            assert MADE.acquire(blocking=False)
            assert not MADE.acquire(blocking=False)
            STEP.release()
        if route.endswith(":stream"):
            assert wire.chunk() == END
        assert wire.chunk() == b""
        assert CLOSED.acquire(timeout=60)
        assert wire.send(LIVE).answer().json() == {"live": True}


def test_the_events_of_records_say_rows_and_version_and_then_the_end(gateway: Gateway):
    answer = gateway.call("POST", "/v1/models/countdown/versions/1:stream", {"instances": [{"n": 2}], "id": "my-1"})
    assert answer.headers["x-request-id"] == "my-1"
    assert answer.headers["cache-control"] == "no-store"
    assert events(answer.body) == [
        ("", {"predictions": [{"y": 2}], "model_version": "1"}),
        ("", {"predictions": [{"y": 1}], "model_version": "1"}),
        ("end", {}),
    ]


def test_a_model_that_does_not_stream_gives_a_stream_of_one(gateway: Gateway):
    rows = [{"a": [1, 2], "b": [0, 0]}, {"a": [3, 4], "b": [1, 1]}]
    answer = gateway.call("POST", "/v1/models/pair:stream", {"instances": rows})
    predictions = [{"sum": [1, 2], "difference": [1, 2]}, {"sum": [4, 5], "difference": [2, 3]}]
    assert events(answer.body) == [("", {"predictions": predictions, "model_version": "1"}), ("end", {})]
    answer = gateway.call("POST", "/v2/models/pair/generate_stream", rows[1])
    assert events(answer.body) == [
        ("", {"model_name": "pair", "model_version": "1", "sum": [4, 5], "difference": [2, 3]})
    ]


def test_several_rows_may_stream_together(gateway: Gateway):
    let_go_on(1)
    answer = gateway.call("POST", "/v1/models/steps:stream", {"instances": [{"n": 2}, {"n": 2}]})
    rows = [data.get("predictions") for _, data in events(answer.body)]
    assert rows == [[{"y": 0}, {"y": 0}], [{"y": 1}, {"y": 1}], None]


@pytest.mark.parametrize("route", ROUTES)
def test_requests_behind_a_stream_wait_their_turn(gateway: Gateway, route: str):
    first = ask(route, "steps", {"n": 2})
    with gateway.wire() as wire:
        wire.send(LIVE + first + LIVE + ask(route, "countdown", {"n": 2}) + LIVE)
        assert wire.answer().json() == {"live": True}
        assert wire.head().status == 200
        wire.chunk()
        assert not wire.has_answer(0.05)
        STEP.release()
        while wire.chunk():
            pass
        assert wire.answer().json() == {"live": True}
        assert values(wire.answer()) == [2, 1]
        assert wire.answer().json() == {"live": True}


@pytest.mark.parametrize("route", ROUTES)
def test_http_1_0_gets_the_parts_without_chunks_until_the_end_of_the_connection(gateway: Gateway, route: str):
    old = ask(route, "countdown", {"n": 3}, connection="keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    with gateway.wire() as wire:
        head = wire.send(old).head()
        assert (head.status, head.headers["connection"]) == (200, "close")
        assert not {"transfer-encoding", "content-length"} & set(head.headers)
        head.body = wire.rest()
        assert values(head) == [3, 2, 1]


def test_a_caller_may_ask_for_the_end_of_the_connection(gateway: Gateway):
    with gateway.wire() as wire:
        answer = wire.send(ask(ROUTES[0], "countdown", {"n": 2}, connection="close") + LIVE).answer()
        assert (values(answer), answer.headers["connection"]) == ([2, 1], "close")
        assert wire.rest() == b""


def test_a_stream_without_parts_is_an_empty_one(gateway: Gateway):
    answers = [
        gateway.call("POST", "/v1/models/countdown:stream", {"instances": [{"n": 0}]}),
        gateway.call("POST", "/v2/models/countdown/generate_stream", {"n": 0}),
    ]
    assert [(a.status, a.headers["content-type"], a.body) for a in answers] == [(200, EVENTS, END), (200, EVENTS, b"")]


@pytest.mark.parametrize("route", ROUTES)
def test_an_error_after_the_first_part_is_the_last_event(gateway: Gateway, route: str):
    let_go_on(1)
    name = f"broken-{ROUTES.index(route)}"
    with gateway.wire() as wire:
        answer = wire.send(ask(route, "steps", {"n": -2}, **{"x-request-id": name})).answer()
        assert answer.status == 200
        first, second, (event, error) = events(answer.body)
        assert [data.get("y", data.get("predictions")) for _, data in (first, second)] in (
            [0, 1],
            [[{"y": 0}], [{"y": 1}]],
        )
        assert event == ("error" if route.endswith(":stream") else "")
        assert (error["code"], error["request_id"]) == ("MODEL_FAILED", name)
        assert error["error"] == "The model failed on this request."
        assert b"secret-plan" not in answer.body
        assert CLOSED.acquire(timeout=60)
        assert wire.send(LIVE).answer().json() == {"live": True}
    assert_logged(gateway, error, 500)


@pytest.mark.parametrize("route", ROUTES)
def test_a_deadline_that_passes_in_the_middle_is_the_last_event(gateway: Gateway, route: str):
    with gateway.wire() as wire:
        answer = wire.send(ask(route, "steps", {"n": 2}, **{"x-request-timeout-ms": "150"})).answer()
        assert [data.get("code") for _, data in events(answer.body)] == [None, "DEADLINE_EXCEEDED"]
        STEP.release()
        assert CLOSED.acquire(timeout=60)


BODIES = {
    "nothing": (b"", "EMPTY_BODY"),
    "half": (b"{", "BAD_JSON"),
    "a list": (b"[1]", ""),
    "more after it": (b"{} x", "BAD_JSON"),
    "not UTF-8": (b"\xff", "BAD_JSON"),
    "a repeated key": (b'{"id": "a", "id": "twice-in-a-stream", $}', "DUPLICATE_KEY"),
    "a large number": (b'{"parameters": {"a": 1e999}, $}', "NUMBER_RANGE"),
    "too deep": (b"[" * 200, "TOO_DEEP"),
    "no inputs": (b"{}", ""),
    "an id that is none": (b'{"id": "a b", $}', ""),
    "no id": (b'{"id": null, $}', ""),
    "parameters that are none": (b'{"parameters": 1, $}', ""),
    "a reserved parameter": (b'{"parameters": {"timeout": "c4n4ry"}, $}', "INVALID_PARAMETER"),
    "a sequence": (b'{"parameters": {"sequence_id": 1}, $}', "UNSUPPORTED"),
    "a deep parameter": (b'{"parameters": {"deep": {"c4n4ry": 1}}, $}', ""),
    "text for a number": (b'{"n": "c4n4ry"}', "VALUE"),
    "a number that does not fit": (b'{"n": 99999999999999999999}', "VALUE"),
    "a fraction": (b'{"n": 1.5}', "VALUE"),
}


@pytest.mark.parametrize(("body", "code"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("route", [*ROUTES, "/v2/models/{m}/generate"])
def test_a_bad_request_is_an_ordinary_error(gateway: Gateway, route: str, body: bytes, code: str):
    if route.endswith(":stream"):
        body = body.replace(b"$", b'"instances": [{"n": 1}]')
        body = b'{"instances": [%s]}' % body if body.startswith(b'{"n"') else body
    answer = gateway.call("POST", route.replace("{m}", "countdown"), body.replace(b"$", b'"n": 1'), JSON)
    assert_logged(gateway, refused(answer, 400, *([code] if code else [])), 400)


@pytest.mark.parametrize("route", [*ROUTES, "/v2/models/{m}/generate"])
def test_what_is_wrong_around_a_body_is_an_ordinary_error(gateway: Gateway, route: str):
    good = json.dumps({"instances": [{"n": 1}]} if route.endswith(":stream") else {"n": 1}).encode()

    def call(model: str, method: str = "POST", **headers: str) -> Answer:
        return gateway.call(method, route.replace("{m}", model), good, {**JSON, **headers})

    assert call("countdown").status == 200
    refused(call("nosuch"), 404, "NOT_FOUND")
    refused(call("NOSUCH"), 400, "INVALID_NAME")
    refused(call("countdown", "GET"), 405, "METHOD_NOT_ALLOWED")
    refused(call("countdown", **{"content-type": "text/plain"}), 415)
    refused(call("countdown", **{"x-request-timeout-ms": "soon"}), 400, "INVALID_HEADER")
    refused(call("countdown", **{"content-encoding": "gzip"}), 400)
    refused(gateway.call("POST", route.replace("{m}", "countdown/versions/2"), good, JSON), 404)
    refused(gateway.call("POST", route.replace("{m}", "countdown/versions/x"), good, JSON), 400, "INVALID_VERSION")


@pytest.mark.parametrize("route", ROUTES)
def test_a_model_that_fails_before_its_first_part_is_an_ordinary_error(gateway: Gateway, route: str):
    with gateway.wire() as wire:
        error = refused(wire.send(ask(route, "moody", {"x": -3})).answer(), 500, "MODEL_FAILED")
        assert_logged(gateway, error, 500)
        refused(wire.send(ask(route, "moody", {"x": -1})).answer(), 500, "INVALID_OUTPUT")
        refused(wire.send(ask(route, "promises", {"say": "grade", "score": 0.5})).answer(), 500, "INVALID_OUTPUT")
        refused(wire.send(ask(route, "promises", {"say": "refuse", "score": 0.5})).answer(), 400, "REFUSED")
        assert wire.send(LIVE).answer().json() == {"live": True}


@pytest.mark.parametrize("route", ROUTES)
def test_a_caller_who_leaves_ends_the_models_stream_within_a_second(gateway: Gateway, route: str):
    """B66, F22: nobody makes parts that nobody reads."""
    for read in (0, 1, 3):
        name = f"left-{ROUTES.index(route)}-{read}"
        with gateway.wire() as wire:
            wire.send(ask(route, "flood", {"size": 10}, **{"x-request-id": name}))
            if read:
                wire.head()
                for _ in range(read):
                    wire.chunk()
            assert MADE.acquire(timeout=60)
        # Long before it would have come to its own end.
        assert CLOSED.acquire(timeout=60)
        gateway.wait_until(lambda: not any(c.is_busy for c in gateway.server.connections))
        assert [line["status"] for line in gateway.log() if line["request_id"] == name] == [499]


# -- generate -------------------------------------------------------------------------------------------------------------


def generate(gateway: Gateway, body: Any, path: str = "generate") -> Answer:
    return gateway.call("POST", f"/v2/models/teller/{path}", body)


def test_generate_gives_the_one_answer_with_single_values_unwrapped(gateway: Gateway):
    answer = generate(gateway, {"id": "g-1", "text_input": "hello", "parameters": {"tone": "low", "loud": True}})
    assert (answer.status, answer.headers["content-type"], answer.headers["x-request-id"]) == (
        200,
        "application/json",
        "g-1",
    )
    assert answer.json() == {
        "id": "g-1",
        "model_name": "teller",
        "model_version": "1",
        "text_output": "hello",
        "scores": [5, 1],
        "grid": [0, 0, 0, 0],
        "said": "None True loud=True tone=low",
    }


@pytest.mark.parametrize(
    "body",
    [
        {"text_input": "hi", "grid": [1, 2, 3, 4], "weights": [1, 2.5], "last": False, "mood": "calm", "n": 1},
        {"text_input": ["hi"], "grid": [[1, 2], [3, 4]], "weights": [1, 2.5], "last": [False], "mood": ["calm"], "n": 1},
        {"text_input": "hi", "n": 1, "parameters": {"grid": [1, 2, 3, 4], "weights": [1, 2.5], "last": False, "mood": "calm"}},
        {"parameters": {"text_input": "hi", "grid": [1, 2, 3, 4], "weights": [1, 2.5], "last": False, "mood": "calm", "n": 1}},
    ],
    ids=["top", "lists", "parameters", "all in parameters"],
)  # fmt: skip
def test_keys_named_like_inputs_are_tensors_and_all_others_are_parameters(gateway: Gateway, body: dict[str, Any]):
    answer = generate(gateway, body).json()
    assert (answer["scores"], answer["grid"], answer["said"]) == ([2, 3.5], [1, 2, 3, 4], "calm False n=1")
    assert events(generate(gateway, body, "generate_stream").body) == [("", answer)]


def test_a_parameter_in_both_places_counts_where_parameters_belong(gateway: Gateway):
    assert generate(gateway, {"text_input": "hi", "n": 1, "parameters": {"n": 2}}).json()["said"] == "None True n=2"


def test_a_scalar_is_taken_for_a_vector_of_one_and_null_for_what_may_be_missing(gateway: Gateway):
    answer = generate(gateway, {"text_input": "hi", "weights": 4, "mood": None}).json()
    assert (answer["scores"], answer["said"]) == ([2, 4], "None True ")


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["text_input"]),
        ({"text_input": "hi", "grid": [1, 2, 3]}, ["grid"]),
        ({"text_input": "hi", "grid": [1, 2, 3, 4, 5, 6]}, ["grid"]),
        ({"text_input": "hi", "grid": 1}, ["grid"]),
        ({"text_input": ["a", "b"]}, ["text_input"]),
        ({"text_input": "hi", "parameters": {"text_input": "ho"}}, ["parameters.text_input"]),
        ({"text_input": "hi", "stop": ["c4n4ry"], "parameters": {"c4n4ry!": None}}, ["stop", "parameters.?"]),
        ({"text_input": 5, "weights": ["c4n4ry"], "last": "yes"}, ["text_input", "weights[0]", "last[0]"]),
    ],
)
def test_mistakes_of_a_generate_body_name_the_callers_own_keys(
    gateway: Gateway, body: dict[str, Any], paths: list[str]
):
    error = refused(generate(gateway, body), 400)
    assert [detail["path"] for detail in error["details"]] == paths or paths[0] in error["details"][0]["path"]
    assert refused(generate(gateway, body, "generate_stream"), 400)["details"] == error["details"]


def test_generate_of_more_or_less_than_one_answer_points_to_the_stream(gateway: Gateway):
    for text in ("one two three", ""):
        error = refused(generate(gateway, {"text_input": text}), 501, "UNSUPPORTED")
        assert "generate_stream" in error["error"]
    words = [
        data["text_output"] for _, data in events(generate(gateway, {"text_input": "a b c"}, "generate_stream").body)
    ]
    assert words == ["a", "b", "c"]
    assert generate(gateway, {"text_input": "a b c", "word_count": 1}).json()["text_output"] == "a"


def test_generate_closes_the_stream_of_which_it_wants_no_more(gateway: Gateway):
    refused(gateway.call("POST", "/v2/models/flood/generate", {"size": 1}), 501)
    assert CLOSED.acquire(timeout=60)


# -- slow readers and stopping --------------------------------------------------------------------------------------------


@pytest.fixture
def stopping(tmp_path: Path) -> Iterator[Gateway]:
    limits = HttpLimits(drain_s=0.5, write_idle_timeout_s=0.5)
    gateway = Gateway([pair(tmp_path / "pair"), steps(tmp_path / "steps"), flood(tmp_path / "flood")], limits)
    yield gateway
    let_go_on(20)
    gateway.stop()


def test_b18_a_caller_who_does_not_read_stops_the_making_of_parts_and_is_cut_off(stopping: Gateway):
    with stopping.wire(receive_buffer=4096) as wire:
        wire.send(ask(ROUTES[0], "flood", {"size": 200_000}))
        stopping.wait_until(lambda: any(c.paused_at for c in stopping.server.connections))
        made = 0
        while MADE.acquire(timeout=0.1):
            made += 1
        assert 0 < made < 200, "what nobody reads is not made"
        assert CLOSED.acquire(timeout=60)
        stopping.wait_until(lambda: not stopping.server.connections)
    assert_right(stopping)


def stopped_while(gateway: Gateway, wire: Wire) -> threading.Thread:
    """Stop a server in whose hand a stream is, and return who waits for the end."""
    stopper = threading.Thread(target=gateway.stop)
    stopper.start()
    gateway.wait_until(lambda: gateway.server.state.is_draining)
    assert not wire.has_answer(0)
    return stopper


@pytest.mark.parametrize("route", ROUTES)
def test_a_stopping_server_lets_a_stream_end(stopping: Gateway, route: str):
    with stopping.wire() as wire:
        head = wire.send(ask(route, "steps", {"n": 2})).head()
        head.body = wire.chunk()
        stopper = stopped_while(stopping, wire)
        STEP.release()
        while piece := wire.chunk():
            head.body += piece
        assert values(head) == [0, 1]
        assert wire.rest() == b""
    stopper.join(60)


@pytest.mark.parametrize("route", ROUTES)
def test_f14_a_stream_that_takes_longer_than_the_server_waits_ends_with_an_error(stopping: Gateway, route: str):
    with stopping.wire() as wire:
        head = wire.send(ask(route, "steps", {"n": 2}, **{"x-request-id": "cut"}) + LIVE).head()
        head.body = wire.chunk()
        stopper = stopped_while(stopping, wire)
        while piece := wire.chunk():
            head.body += piece
        (_, first), (name, error) = events(head.body)
        assert first.get("y", 0) == 0
        assert name == ("error" if route.endswith(":stream") else "")
        assert (error["error"], error["code"], error["request_id"]) == ("the server is stopping", "NOT_READY", "cut")
        assert wire.rest() == b""
    STEP.release()
    stopper.join(60)
    assert not stopper.is_alive()


def test_f14_a_stream_that_has_not_begun_is_refused_when_the_server_cannot_wait(stopping: Gateway):
    with stopping.wire() as busy, stopping.wire() as wire:
        busy.send(ask(ROUTES[0], "steps", {"n": 2})).head()
        assert MADE.acquire(timeout=60)
        # The model's one thread is taken, so the second stream has no part yet.
        wire.send(ask(ROUTES[0], "steps", {"n": 2}))
        stopping.wait_until(lambda: sum(c.is_busy for c in stopping.server.connections) == 2)
        stopper = stopped_while(stopping, wire)
        error = refused(wire.answer(), 503, "NOT_READY")
        assert error["error"] == "the server is stopping"
        assert wire.rest() == b""
    let_go_on(2)
    stopper.join(60)
