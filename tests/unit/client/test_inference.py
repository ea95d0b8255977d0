"""The inference client over REST, with a server of the test's own making in place of the network."""

import asyncio
import json
from collections.abc import Callable

import httpx
import msgspec
import numpy as np
import pytest

from limen.client import AsyncClient, Client, RetryPolicy
from limen.contracts.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    LimenError,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
)

METADATA = {
    "name": "m",
    "versions": ["3"],
    "platform": "onnx",
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [-1]},
        {"name": "t", "datatype": "BYTES", "shape": [-1]},
    ],
    "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1]}],
    "properties": {"text_inputs": "t", "text_outputs": "y", "digest": "d"},
}
ONCE = RetryPolicy(attempts=1)


class Server:
    """Answers as told, and keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.asked.append(request)
        if request.method == "GET":
            return httpx.Response(200, json=METADATA)
        answer = self.answers.pop(0) if self.answers else predictions({"y": "a"})
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)

    def paths(self) -> list[str]:
        return [request.url.raw_path.decode() for request in self.asked]


def predictions(*rows: dict, **more: str) -> httpx.Response:
    body = {"predictions": rows, "model_name": "m", "model_version": "3", **more}
    return httpx.Response(200, json=body, headers={"x-request-id": "r-9"})


def tensors(request: httpx.Request) -> httpx.Response:
    """Answer one text a row, as bytes behind a JSON head."""
    length = int(request.headers["inference-header-content-length"])
    rows = json.loads(request.content[:length])["inputs"][0]["shape"][0]
    raw = b"\x01\x00\x00\x00a" * rows
    output = {"name": "y", "datatype": "BYTES", "shape": [rows], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"model_name": "m", "model_version": "3", "outputs": [output]}).encode()
    return httpx.Response(200, content=head + raw, headers={"inference-header-content-length": str(len(head))})


def client(server: Server, **options: object) -> Client:
    return Client("http://limen", transport=server.transport, **options)  # type: ignore[arg-type]


def test_a_record_is_asked_as_json_and_its_answer_says_who_answered():
    server = Server()
    with client(server, headers={"authorization": "Bearer k"}) as c:
        answer = c.predict("m", {"x": np.float32(0.1), "t": b"A", "v": np.array([1, 2])}, parameters={"priority": 1})
    (asked,) = server.asked
    assert json.loads(asked.content) == {
        "instances": [{"x": 0.1, "t": "QQ==", "v": [1, 2]}],
        "parameters": {"priority": 1},
    }
    assert asked.headers["authorization"] == "Bearer k"
    assert "x-retry-attempt" not in asked.headers
    assert asked.headers["accept-encoding"] == "identity"
    assert (answer.outputs, answer.model, answer.version, answer.request_id) == ({"y": "a"}, "m", "3", "r-9")
    assert not answer.is_fallback


def test_endpoints_aliases_and_versions_are_parts_of_the_path_and_nothing_else():
    server = Server()
    with client(server) as c:
        for name, version in (("m", ""), ("m@champion", ""), ("m", 7), ("../admin?x", "1/2")):
            c.predict(name, {"x": 1}, version=version)
    assert server.paths() == [
        "/v1/models/m:predict",
        "/v1/models/m@champion:predict",
        "/v1/models/m/versions/7:predict",
        "/v1/models/..%2Fadmin%3Fx/versions/1%2F2:predict",
    ]


def test_many_records_are_sent_as_tensors_whose_types_are_asked_for_once():
    server = Server(tensors, tensors)
    rows = [{"x": i, "t": "é"} for i in range(300)]
    with client(server) as c:
        assert c.predict("m", rows).as_records() == [{"y": "a"}] * 300
        c.predict("m", rows)
    assert server.paths() == ["/v2/models/m", "/v2/models/m/infer", "/v2/models/m/infer"]
    body = server.asked[1].content
    length = int(server.asked[1].headers["inference-header-content-length"])
    head = json.loads(body[:length])
    assert [(i["name"], i["datatype"], i["shape"]) for i in head["inputs"]] == [
        ("x", "FP32", [300]),
        ("t", "BYTES", [300]),
    ]
    assert np.frombuffer(body, "<f4", 300, length).tolist() == list(range(300))


def test_records_that_tensors_cannot_hold_go_as_json_after_a_second_look_at_the_types():
    server = Server(httpx.Response(200, json={"predictions": [{"y": "a"}] * 300}))
    rows = [{"x": 1, "t": "a"}] * 299 + [{"x": 1}]
    with client(server) as c:
        c.signature("m")
        c.predict("m", rows)
    assert server.paths() == ["/v2/models/m", "/v2/models/m", "/v1/models/m:predict"]


def test_arrays_are_asked_as_bytes_and_text_comes_back_as_text():
    server = Server(tensors)
    with client(server) as c:
        answer = c.predict("m", {"x": np.zeros(2, np.float32)}, outputs=["y"])
    assert answer.as_arrays()["y"].tolist() == ["a", "a"]
    length = int(server.asked[0].headers["inference-header-content-length"])
    head = json.loads(server.asked[0].content[:length])
    assert (head["outputs"], head["parameters"]) == ([{"name": "y"}], {"binary_data_output": True})


def test_outputs_are_chosen_from_records_and_unknown_ones_are_the_callers_mistake():
    server = Server(predictions({"y": "a", "z": 1}), predictions({"y": "a"}))
    with client(server) as c:
        assert c.predict("m", {"x": 1}, outputs=["z"]).record == {"z": 1}
        with pytest.raises(InvalidArgument, match="outputs") as found:
            c.predict("m", {"x": 1}, outputs=["z"])
    assert found.value.reason is Reason.OUTPUT_SET


def test_a_fallback_says_that_it_is_one():
    with client(Server(predictions({"y": 1}, fallback="constant"))) as c:
        assert c.predict("m", {"x": 1}).is_fallback


def test_a_retry_says_which_it_is_and_keeps_the_id_and_the_time_limit():
    server = Server(httpx.Response(503, headers={"retry-after": "0"}))
    with client(server, retry=RetryPolicy(first_wait_s=0.0)) as c:
        c.predict("m", {"x": 1}, timeout=20)
    first, second = server.asked
    assert second.headers["x-retry-attempt"] == "1"
    assert first.headers["x-request-id"] == second.headers["x-request-id"]
    times = [int(request.headers["x-request-timeout-ms"]) for request in server.asked]
    assert 0 < times[1] <= times[0] <= 20_000


def test_without_a_time_limit_the_server_is_told_none():
    server = Server()
    with client(server, timeout=None) as c:
        c.predict("m", {"x": 1})
    assert "x-request-timeout-ms" not in server.asked[0].headers


def test_a_failing_server_gets_a_tenth_more_than_it_was_asked():
    """F24."""
    server = Server(*(httpx.Response(503) for _ in range(1000)))
    with client(server, retry=RetryPolicy(first_wait_s=0.0)) as c:
        for _ in range(200):
            with pytest.raises(Unavailable):
                c.predict("m", {"x": 1})
    assert len(server.asked) <= 220


def test_a_callers_mistake_is_told_once():
    body = {
        "error": "no",
        "code": "INPUT_SET",
        "request_id": "r-1",
        "details": [{"path": "x", "reason": "is required"}],
    }
    server = Server(httpx.Response(400, json=body))
    with client(server) as c, pytest.raises(InvalidArgument) as found:
        c.predict("m", {"t": "a"})
    error = found.value
    assert (error.reason, error.request_id, [v.path for v in error.violations]) == (Reason.INPUT_SET, "r-1", ["x"])
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx.ConnectError("refused by 10.0.0.1"), Unavailable),
        (httpx.ConnectTimeout("10.0.0.1"), Unavailable),
        (httpx.ReadError("10.0.0.1"), Unavailable),
        (httpx.ReadTimeout("10.0.0.1"), DeadlineExceeded),
        (httpx.DecodingError("10.0.0.1"), Internal),
        (httpx.Response(200, content=b"{"), Internal),
        (httpx.Response(200, json={"predictions": 3}), Internal),
        (httpx.Response(429, json={}), ResourceExhausted),
        (httpx.Response(404, json={}), NotFound),
    ],
    ids=["refused", "no connection", "broken", "late", "unreadable", "cut", "another", "429", "404"],
)
def test_what_goes_wrong_on_the_way_is_an_error_of_ours_with_the_requests_id(failure, kind):
    server = Server(failure)
    with client(server, retry=ONCE) as c, pytest.raises(kind) as found:
        c.predict("m", {"x": 1}, request_id="mine")
    assert found.value.request_id == "mine"
    assert "10.0.0.1" not in str(found.value)


def test_an_answer_in_tensors_that_is_none_is_an_error_of_ours():
    headers = {"inference-header-content-length": "2"}
    with client(Server(httpx.Response(200, content=b"{}", headers=headers)), retry=ONCE) as c, pytest.raises(Internal):
        c.predict("m", {"x": np.zeros(1, np.float32)})


def test_a_late_answer_is_not_waited_for():
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with Client("http://limen", transport=httpx.MockTransport(never)) as c, pytest.raises(DeadlineExceeded):
        c.predict("m", {"x": 1}, timeout=0.01)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "grpc://host", "http://[", "grpc://h:99999"])
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(InvalidArgument, match="url"):
        Client(url)


def test_an_id_that_is_none_and_a_value_that_cannot_be_json_are_refused_before_anything_is_sent():
    server = Server()
    with client(server) as c:
        with pytest.raises(InvalidArgument):
            c.predict("m", {"x": 1}, request_id="a b")
        with pytest.raises(InvalidArgument, match="instances"):
            c.predict("m", {"x": object()})
    assert server.asked == []


# -- streams ------------------------------------------------------------------------------------------------------------


def events(*texts: str, pieces: int = 7) -> httpx.Response:
    body = "".join(texts).encode()

    class Body(httpx.AsyncByteStream):
        is_closed = False

        async def __aiter__(self):
            for i in range(0, len(body), pieces):
                yield body[i : i + pieces]

        async def aclose(self) -> None:
            self.is_closed = True

    return httpx.Response(200, stream=Body(), headers={"content-type": "text/event-stream"})


def part(y: int) -> str:
    return f'data: {{"predictions":[{{"y":{y}}}],"model_version":"3"}}\n\n'


END = "event: end\ndata: {}\n\n"


def test_parts_come_as_they_are_made_whatever_the_pieces_of_the_body():
    for pieces in (1, 5, 1000):
        with client(Server(events(part(1), ": a comment\n\n", part(2).replace("\n", "\r\n"), END, pieces=pieces))) as c:
            assert [p.record["y"] for p in c.stream("m", {"x": 1})] == [1, 2]


def test_a_stream_that_breaks_off_is_not_whole():
    with client(Server(events(part(1)))) as c:
        parts = c.stream("m", {"x": 1})
        assert next(parts).version == "3"
        with pytest.raises(Unavailable):
            next(parts)


def test_an_error_after_the_first_part_is_raised_with_its_class():
    said = json.dumps({"error": "no", "code": "INVALID_OUTPUT", "request_id": "r-1", "details": []})
    with client(Server(events(part(1), f"event: error\ndata: {said}\n\n"))) as c:
        parts = c.stream("m", {"x": 1})
        next(parts)
        with pytest.raises(LimenError) as found:
            next(parts)
    assert (type(found.value).__name__, found.value.request_id) == ("InvalidOutput", "r-1")


def test_only_a_stream_that_has_given_nothing_is_tried_again():
    server = Server(httpx.Response(503), events(part(1)))
    with client(server, retry=RetryPolicy(first_wait_s=0.0)) as c:
        parts = c.stream("m", {"x": 1})
        assert next(parts).record == {"y": 1}
        with pytest.raises(Unavailable):
            next(parts)
    assert server.paths() == ["/v1/models/m:stream"] * 2


def test_closing_a_stream_closes_the_connection():
    answer = events(part(1), part(2), END, pieces=1000)
    body = answer.stream
    with client(Server(answer)) as c:
        parts = c.stream("m", {"x": 1})
        next(parts)
        parts.close()
        assert body.is_closed  # type: ignore[attr-defined]  # it is our own


async def test_leaving_the_loop_of_an_asynchronous_stream_closes_the_connection():
    answer = events(part(1), part(2), END, pieces=1000)
    body = answer.stream
    async with AsyncClient("http://limen", transport=Server(answer).transport) as c:
        async for _ in c.stream("m", {"x": 1}):
            break
        for _ in range(9):
            await asyncio.sleep(0)
        assert body.is_closed  # type: ignore[attr-defined]  # it is our own


def test_arrays_are_streamed_as_rows_and_come_back_as_arrays():
    server = Server(events('data: {"predictions":[{"y":"a"}],"model_version":"3"}\n\n', END))
    with client(server) as c:
        (only,) = c.stream("m", {"x": np.array([1], np.float32)})
    assert only.as_arrays()["y"].tolist() == ["a"]


def test_readiness_is_a_yes_or_a_no_and_an_unreachable_server_neither():
    def health(request: httpx.Request) -> httpx.Response:
        if "gone" in str(request.url):
            raise httpx.ConnectError("no")
        return httpx.Response(503 if "not" in str(request.url) else 200, json={})

    with Client("http://limen", transport=httpx.MockTransport(health), retry=ONCE) as c:
        assert (c.is_ready("m"), c.is_ready("not"), c.is_ready("m", 3)) == (True, False, True)
        with pytest.raises(Unavailable):
            c.is_ready("gone")


def test_metadata_that_is_none_is_an_error_of_ours():
    answer = httpx.Response(200, content=msgspec.json.encode({"inputs": 3}))
    with Client("http://limen", transport=httpx.MockTransport(lambda _: answer)) as c, pytest.raises(Internal):
        c.signature("m")
