"""Programs that use `limen.client` against the real server: the same answers through every door, and nothing left behind."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from limen.client import AsyncClient, Client, Management, RetryPolicy
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import DeadlineExceeded, InvalidArgument, ModelFailed, Unavailable
from limen.packaging.archive.package import build
from tests.services.packages import write_code, write_countdown, write_score, write_slow
from tests.services.process import WAIT_S, Server, serving

ROWS = [{"amount": float(i % 1000), "age": i % 130} for i in range(1000)]
SCORES = [0.5 * row["amount"] + 0.25 * row["age"] for row in ROWS]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    packages = [write_score(folder / "score"), write_countdown(folder / "countdown"), write_slow(folder / "slow")]
    with serving(*packages, "--trust-code", announcement=folder / "a.json") as server:
        yield server


@pytest.fixture(params=["rest", "grpc"])
def url(request, server: Server) -> str:
    return f"http://{server.announced['http']}" if request.param == "rest" else f"grpc://{server.grpc}"


def test_records_arrays_and_frames_get_the_models_answer(url):
    pandas = pytest.importorskip("pandas")
    arrays = {
        "amount": np.array([row["amount"] for row in ROWS], np.float32),
        "age": np.array([row["age"] for row in ROWS], np.int32),
    }
    with Client(url) as client:
        assert client.predict("score", ROWS[7]).record == {"score": SCORES[7]}
        assert [row["score"] for row in client.predict("score", ROWS[:9]).as_records()] == SCORES[:9]
        assert [row["score"] for row in client.predict("score", ROWS).as_records()] == SCORES
        assert client.predict("score", arrays).as_arrays()["score"].tolist() == SCORES
        frame = client.predict("score", pandas.DataFrame(ROWS)).as_frame()
    assert frame["score"].tolist() == SCORES


async def test_many_calls_at_once_each_get_their_own_answer(url):
    async with AsyncClient(url) as client:
        answers = await asyncio.gather(*(client.predict("score", row) for row in ROWS[:200]))
    assert [answer.record["score"] for answer in answers] == SCORES[:200]


def test_many_threads_may_share_one_client(url):
    found: dict[int, float] = {}

    def ask(i: int) -> None:
        found[i] = client.predict("score", ROWS[i]).record["score"]

    with Client(url) as client:
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == dict(enumerate(SCORES[:20]))


def test_a_stream_gives_its_parts_and_its_errors(url):
    with Client(url) as client:
        assert [part.record["value"] for part in client.stream("countdown", {"n": 5})] == [5, 4, 3, 2, 1]
        parts = client.stream("countdown", {"n": -1})
        assert next(parts).record == {"value": -1}
        with pytest.raises(ModelFailed) as found:
            next(parts)
    assert "secret" not in str(found.value)


async def test_leaving_a_stream_frees_the_replica_for_the_next_caller(server, url, tmp_path):
    """The model writes down what it makes; a stream that somebody left makes no more."""
    log = tmp_path / "made"
    code = f"""\
    import time

    import numpy as np


    class Model:
        def predict(self, inputs):
            return {{"value": inputs["n"]}}

        def stream(self, inputs):
            for value in range(int(inputs["n"][0])):
                with open({str(log)!r}, "a") as file:
                    file.write(".")
                time.sleep(0.01)
                yield {{"value": np.array([value], np.int32)}}
    """
    manifest = "inputs: [{name: n, type: int32, examples: [1]}]\noutputs: [{name: value, type: int32}]\n"
    package = write_code(tmp_path / "endless", manifest, code)
    with serving(package, "--trust-code", announcement=tmp_path / "a.json") as own:
        address = f"grpc://{own.grpc}" if url.startswith("grpc") else f"http://{own.announced['http']}"
        async with AsyncClient(address) as client:
            async with aclosing(client.stream("endless", {"n": 1_000_000})) as parts:
                async for part in parts:
                    if part.record["value"] == 3:
                        break
            # A model of one replica runs one stream at a time: the next one is answered because that one has ended.
            again = [part.record["value"] async for part in client.stream("endless", {"n": 2}, timeout=30)]
            assert again == [0, 1]
            seen = log.stat().st_size
            assert seen < 1000
        assert own.stop()[0] == 0


def test_the_answer_of_a_fallback_says_so_in_every_form(tmp_path):
    manifest = """\
    inputs: [{name: x, type: float64, examples: [1]}]
    outputs: [{name: y, type: float64}]
    fallback: {outputs: {y: 0.5}}
    """
    code = """\
    class Model:
        def predict(self, inputs):
            if (inputs["x"] < 0).any():
                raise RuntimeError("no")
            return {"y": inputs["x"]}
    """
    package = write_code(tmp_path / "careful", manifest, code)
    with serving(package, "--trust-code", announcement=tmp_path / "a.json") as own:
        for url in (f"http://{own.announced['http']}", f"grpc://{own.grpc}"):
            with Client(url) as client:
                for inputs in ({"x": -1.0}, {"x": np.array([-1.0])}):
                    answer = client.predict("careful", inputs)
                    assert (answer.is_fallback, answer.as_records()) == (True, [{"y": 0.5}])
                assert not client.predict("careful", {"x": np.array([2.0])}).is_fallback


def test_errors_are_the_same_on_both_transports(server):
    def told(address: str, **record: object) -> tuple[object, ...]:
        with Client(address) as client, pytest.raises(InvalidArgument) as found:
            client.predict("score", {name: np.array([value], np.float64) for name, value in record.items()})
        return found.value.reason, found.value.message, found.value.violations

    addresses = f"http://{server.announced['http']}", f"grpc://{server.grpc}"
    for record in ({"amount": 1.0}, {"amount": 1.0, "age": 2.0}, {"x": 1.0}):
        rest, grpc = (told(address, **record) for address in addresses)
        assert rest == grpc


def test_versions_and_aliases_of_a_registry_are_called_through_every_door(tmp_path):
    archive = build(write_score(tmp_path / "score"), tmp_path / "dist").path
    with serving("--admin-port", 0, announcement=tmp_path / "a.json") as own:
        with Management(f"http://{own.announced['admin']}") as management:
            published = [management.publish("score", archive, alias="champion") for _ in range(2)]
            assert [(p.is_new, p.version.number) for p in published] == [(True, 1), (False, 1)]
            spec = EndpointSpec(name="score", model="score", traffic={"champion": 100})
            management.apply_endpoint(spec, expected=0)
            until = time.monotonic() + WAIT_S
            while not management.endpoint("score").status.is_ready:
                assert time.monotonic() < until
                time.sleep(0.02)
        for url in (f"http://{own.announced['http']}", f"grpc://{own.grpc}"):
            with Client(url) as client:
                for inputs in (ROWS[5], {"amount": np.array([5.0], np.float32), "age": np.array([5], np.int32)}):
                    for name, version in (("score@champion", ""), ("score", 1), ("score", "")):
                        answer = client.predict(name, inputs, version=version)
                        assert (answer.as_records(), answer.version) == ([{"score": SCORES[5]}], "1")


def test_a_late_answer_is_given_up_and_the_server_goes_on(url):
    with Client(url) as client:
        with pytest.raises(DeadlineExceeded):
            client.predict("slow", {"seconds": 2.0}, timeout=0.2)
        assert client.predict("slow", {"seconds": 0.0}).record == {"seconds": 0.0}


def test_a_server_that_is_gone_is_unavailable(tmp_path: Path):
    with serving(write_score(tmp_path / "score"), announcement=tmp_path / "a.json") as own:
        clients = [
            Client(url, retry=RetryPolicy(attempts=2, first_wait_s=0.0))
            for url in (f"http://{own.announced['http']}", f"grpc://{own.grpc}")
        ]
        for client in clients:
            assert client.predict("score", ROWS[3]).record == {"score": SCORES[3]}
        assert own.stop()[0] == 0
        for client in clients:
            with pytest.raises(Unavailable):
                client.predict("score", ROWS[3])
            client.close()
