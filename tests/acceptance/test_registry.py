"""A registry and its server as their users have them: publish, name, apply, call, go back, and refuse what would break callers."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import TypeVar

import grpc
import pytest

from limen.contracts.contract import Slo
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import Incompatible, InvalidPackage, NotAllowedNow, NotFound, Stale, Unavailable
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.packaging.archive.package import build, inspect
from tests.services import plain_http
from tests.services.packages import write_score, write_weights
from tests.services.process import WAIT_S, Server, limen, refused, serving
from tests.services.registry import ROW, World, calling, world_at

T = TypeVar("T")


NUMBERS = count(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[World]:
    with world_at(tmp_path_factory.mktemp("shared")) as found:
        yield found


@pytest.fixture
def world(shared, tmp_path) -> World:
    """Return a model of its own on the server that the tests share."""
    return World(shared.server, shared.management, tmp_path, f"score{next(NUMBERS)}")


@pytest.fixture
def own_world(tmp_path) -> Iterator[World]:
    """Return a server that may be hurt."""
    with world_at(tmp_path) as found:
        yield found


def test_versions_are_published_named_and_served_and_old_and_new_can_be_called(world):
    first = world.publish(alias="champion")
    assert (first.version.number, first.is_new, first.version.aliases) == (1, True, ("champion",))
    world.apply(traffic={"champion": 100})
    assert world.answering() == "1"

    second = world.publish(alias="challenger")
    assert (second.version.number, second.version.lineage.parent) == (2, 1)
    world.apply(traffic={"champion": 100}, ready=("challenger",))
    assert world.answering() == "1"
    assert world.answering(path="/versions/2") == "2"
    assert world.answering(path="/labels/challenger") == "2"
    assert world.answering(f"{world.name}@challenger") == "2"
    paths = plain_http.get(f"{world.server.http.base_url}/openapi.json", timeout=WAIT_S).json()["paths"]
    assert {f"/v1/models/{world.name}:predict", f"/v1/models/{world.name}/versions/2:predict"} <= set(paths)

    world.management.set_alias(world.name, "champion", 2)
    world.until_answering(2)
    assert world.answering(f"{world.name}@champion") == "2"
    world.management.set_alias(world.name, "champion", 1)
    world.until_answering(1)


def test_every_protocol_names_the_version_by_number_alias_or_share(world):
    world.publish(alias="champion")
    world.publish(alias="challenger")
    world.apply(traffic={"champion": 50, "challenger": 50})
    oip = {"inputs": [
        {"name": "amount", "shape": [1], "datatype": "FP32", "data": [3]},
        {"name": "age", "shape": [1], "datatype": "INT32", "data": [2]},
    ]}  # fmt: skip
    base = world.server.http.base_url
    for called, version in ((f"{world.name}@challenger", "2"), (f"{world.name}/versions/1", "1")):
        answer = plain_http.post(f"{base}/v2/models/{called}/infer", json=oip, timeout=WAIT_S).json()
        assert (answer["model_version"], answer["outputs"][0]["data"]) == (version, [2.0])
    seen = {
        plain_http.post(f"{base}/v2/models/{world.name}/infer", json=oip | {"id": f"u{i}"}).json()["model_version"]
        for i in range(40)
    }
    assert seen == {"1", "2"}
    repeated = {
        plain_http.post(f"{base}/v2/models/{world.name}/infer", json=oip | {"id": "same"}).json()["model_version"]
        for _ in range(9)
    }
    assert len(repeated) == 1

    def infer(name: str, version: str = "") -> str:
        tensor = pb.ModelInferRequest.InferInputTensor
        contents = pb.InferTensorContents
        inputs = [
            tensor(name="amount", datatype="FP32", shape=[1], contents=contents(fp32_contents=[3])),
            tensor(name="age", datatype="INT32", shape=[1], contents=contents(int_contents=[2])),
        ]
        request = pb.ModelInferRequest(model_name=name, model_version=version, inputs=inputs)
        with grpc.insecure_channel(world.server.grpc) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            answer = pb.ModelInferResponse.FromString(call(request.SerializeToString(), timeout=WAIT_S))
        return answer.model_version

    assert (infer(world.name, "2"), infer(f"{world.name}@champion")) == ("2", "1")


def test_a_version_that_would_break_callers_is_refused_with_reasons_and_gets_an_endpoint_of_its_own(world):
    world.publish(alias="champion")
    world.apply(traffic={"champion": 100})
    narrower = ("minimum: 0, maximum: 1000", "minimum: 1, maximum: 1000")
    with pytest.raises(Incompatible) as caught:
        world.publish(narrower)
    assert [v.path for v in caught.value.violations] == ["inputs.amount.minimum"]
    assert world.management.model(world.name).versions == 1

    second = world.publish(narrower, ("backend: onnx", "major: 2\nbackend: onnx"))
    assert (second.version.number, second.version.major) == (2, 2)
    with pytest.raises(Incompatible) as caught:
        world.apply(traffic={"2": 100})
    assert [v.path for v in caught.value.violations] == ["traffic.2"]
    with pytest.raises(Incompatible):
        world.management.set_alias(world.name, "champion", 2)
    world.apply(f"{world.name}.v2", major=2, traffic={"2": 100})
    assert (world.answering(world.name), world.answering(f"{world.name}.v2")) == ("1", "2")


def test_what_an_endpoint_needs_is_not_taken_away(world):
    world.publish(alias="champion")
    world.publish()
    world.apply(traffic={"champion": 100}, ready=("2",))
    with pytest.raises(NotAllowedNow, match=f"the endpoint {world.name} follows the alias"):
        world.management.remove_alias(world.name, "champion")
    with pytest.raises(NotAllowedNow, match=f"the endpoint {world.name} uses the version"):
        world.management.retire(world.name, 2)
    with pytest.raises(NotAllowedNow):
        world.management.retire(world.name, 1)
    world.apply(traffic={"champion": 100})
    world.management.retire(world.name, 2, "not good enough")
    with pytest.raises(NotAllowedNow, match="retired"):
        world.apply(traffic={"2": 100})
    with pytest.raises(NotFound):
        world.apply(traffic={"nobody": 100})
    world.management.restore(world.name, 2)
    world.apply(traffic={"2": 100})
    assert world.answering() == "2"


def test_b79_two_operators_do_not_overwrite_each_other(world):
    world.publish(alias="champion")
    spec = world.spec(traffic={"champion": 100})
    applied = world.management.apply_endpoint(spec, expected=0)
    with pytest.raises(Stale):
        world.management.apply_endpoint(spec, expected=0)
    paused = world.spec(traffic={"champion": 100}, is_paused=True)
    world.management.apply_endpoint(paused, expected=applied.revision)
    with pytest.raises(Stale):
        world.management.remove_endpoint(world.name, expected=applied.revision)
    world.management.remove_endpoint(world.name, expected=applied.revision + 1)


def test_a_paused_endpoint_is_not_ready_rather_than_unknown_and_comes_back(world):
    world.publish(alias="champion")
    world.apply(traffic={"champion": 100})
    spec = world.spec(traffic={"champion": 100}, is_paused=True)
    world.management.apply_endpoint(spec)
    url = f"{world.server.http.base_url}/v1/models/{world.name}:predict"

    def status() -> int:
        return plain_http.post(url, json={"instances": [ROW]}, timeout=WAIT_S).status_code

    until = time.monotonic() + WAIT_S
    while (found := status()) != 503:
        assert found == 200
        assert time.monotonic() < until
        time.sleep(0.02)
    world.apply(traffic={"champion": 100})
    assert status() == 200
    world.management.remove_endpoint(world.name)
    until = time.monotonic() + WAIT_S
    while status() != 404:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(("placement", "replicas"), [("inline", 0), ("process", 1)])
def test_an_endpoint_says_where_its_versions_run_and_answers_under_its_own_name(world, placement, replicas):
    world.publish(alias="champion")
    before = set(world.server.children("replica"))
    world.apply("scores-of-the-shop", traffic={"champion": 100}, placement=placement)
    assert len(set(world.server.children("replica")) - before) == replicas
    url = f"{world.server.http.base_url}/v1/models/scores-of-the-shop:predict"
    answer = plain_http.post(url, json={"instances": [ROW]}, timeout=WAIT_S).json()
    assert (answer["model_name"], answer["model_version"]) == ("scores-of-the-shop", "1")


def test_what_an_endpoint_says_about_time_holds_from_then_on(world):
    world.publish(alias="champion")
    world.apply(traffic={"champion": 100})
    before = world.server.children("replica")
    world.apply(traffic={"champion": 100}, slo=Slo(deadline_ms=123))
    until = time.monotonic() + WAIT_S
    url = f"{world.server.http.base_url}/v1/models/{world.name}/contract"
    while plain_http.get(url, timeout=WAIT_S).json().get("slo") != {"deadline_ms": 123}:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert world.server.children("replica") == before


def test_a_new_endpoint_whose_package_is_lost_is_refused_and_takes_no_other_from_its_callers(own_world):
    own_world.publish(alias="champion")
    own_world.apply(traffic={"champion": 100})
    number = own_world.publish().version.number
    spec = EndpointSpec(name="other", model="score", traffic={str(number): 100})
    # Its package is lost before anybody has fetched it.
    for blob in (own_world.folder / "home" / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    with pytest.raises(Unavailable, match=f"version {number} of score cannot be served"):
        own_world.management.apply_endpoint(spec)
    base = own_world.server.http.base_url
    assert plain_http.get(f"{base}/v2/health/ready", timeout=WAIT_S).status_code == 200
    assert plain_http.get(f"{base}/v2/models/other/ready", timeout=WAIT_S).status_code == 404
    assert own_world.answering() == "1"


def test_b98_a_version_is_for_ever(world):
    archive = world.archive()
    first = world.management.publish(world.name, archive)
    again = world.management.publish(world.name, archive, tags={"x": "y"})
    assert (again.is_new, again.version.number) == (False, first.version.number)
    with pytest.raises(Exception, match="1"):
        world.publish(number=1)


def test_b102_a_package_whose_model_answers_otherwise_is_rejected_and_never_listed(world):
    package = write_score(world.folder / "wrong", world.name, golden=3.0)
    archive = build(package, world.folder / "wrong-dist").path
    with pytest.raises(InvalidPackage) as caught:
        world.management.publish(world.name, archive)
    assert caught.value.reason == "REJECTED"
    with pytest.raises(NotFound):
        world.management.model(world.name)


def test_other_answers_than_before_are_told_and_refused_where_they_must_be_the_same(world):
    world.publish()
    package = write_score(world.folder / "other", world.name, golden=4.0)
    write_weights(package, [[1.0], [0.5]])
    archive = build(package, world.folder / "other-dist").path
    with pytest.raises(Incompatible, match="differ from those of version 1"):
        world.management.publish(world.name, archive, same_answers=True)
    found = world.management.publish(world.name, archive)
    assert found.version.number == 2
    assert {e.kind: e.verdict for e in found.evidence}["behaviour"] == "FAIL"


def test_f17_a_server_starts_from_what_it_knew_when_the_registry_cannot_be_reached(tmp_path):
    with world_at(tmp_path) as world:
        world.publish(alias="champion")
        world.apply(traffic={"champion": 100})
    home = tmp_path / "home"
    (home / "limen.db").rename(home / "elsewhere.db")
    (home / "limen.db").mkdir()
    with world_at(tmp_path) as world:
        assert world.answering() == "1"
        with pytest.raises(Exception, match="registry"):
            world.management.models()
        (home / "limen.db").rmdir()
        for leftover in home.glob("limen.db-*"):
            leftover.unlink()
        (home / "elsewhere.db").rename(home / "limen.db")
        world.publish(alias="challenger")
        world.apply(traffic={"challenger": 100})
        assert world.answering() == "2"


def test_the_commands_work_with_and_without_a_server(tmp_path):
    home = tmp_path / "home"
    package = write_score(tmp_path / "score")
    done = limen("publish", package, "--alias", "champion", "--tag", "team=risk", "--home", home)
    assert done.returncode == 0, done.stderr
    assert "score is version 1, score@champion" in done.stdout
    assert "champion → 1" in limen("model", "list", "--home", home).stdout
    endpoint = tmp_path / "endpoint.yaml"
    endpoint.write_text("name: score\ntraffic: champion\n")
    assert "not an interactive terminal" in refused("endpoint", "apply", endpoint, "--home", home)
    done = limen("endpoint", "apply", endpoint, "--yes", "--home", home)
    assert "`limen serve` serves it" in done.stdout, done.stderr
    assert "not served" in limen("endpoint", "list", "--home", home).stdout
    with serving("--home", home, "--admin-port", "0", announcement=tmp_path / "ready.json") as server:
        assert server.predict("score", **ROW) == {"score": 2.0}
        assert "ready" in limen("endpoint", "list", "--home", home).stdout
        done = limen("endpoint", "apply", endpoint, "--yes", "--home", home)
        assert "is up to date" in done.stdout
        assert "version 1" in limen("endpoint", "show", "score", "--home", home).stdout
        text = refused("alias", "set", "score", "champion", "7", "--home", home)
        assert "no such version" in text
        other = write_score(tmp_path / "other")
        manifest = other / "model.yaml"
        manifest.write_text(manifest.read_text().replace("title: Score", "title: Better"))
        assert limen("publish", other, "--home", home).returncode == 0
        done = limen("alias", "set", "score", "champion", "2", "--home", home)
        assert done.stdout.splitlines() == [
            "score@champion is version 2, instead of version 1",
            "score is ready with version 2",
        ]
        addresses = json.loads((tmp_path / "ready.json").read_text())
        rest, admin = f"http://{addresses['http']}", f"http://{addresses['admin']}"
        text = refused("model", "list", "--server", rest, "--home", home)
        assert f"{rest} is the REST port, not the management API\nhint: The management API is at {admin}." in text
        text = refused("model", "list", "--server", rest, "--home", tmp_path / "elsewhere")
        assert f"{rest} is the REST port of a server, not its management API" in text
        text = refused("client", "score", "--server", admin)
        assert f"{admin} is the management API, not the REST port\nhint: The REST port is at {rest}." in text
        assert limen("proto", "score", "--server", rest, cwd=tmp_path).returncode == 0
        (tmp_path / "nobody").mkdir()
        assert "has no such document of nobody" in refused("proto", "nobody", "--server", rest, cwd=tmp_path)
        assert limen("endpoint", "delete", "score", "--yes", "--home", home).returncode == 0


def killed_at_random(world: World, rounds: int, seed: int) -> None:
    """Kill control at random points of publishing, naming and applying, and compare what was acknowledged with what is there."""
    chance = random.Random(seed)
    world.publish(alias="champion")
    world.apply(traffic={"champion": 100})
    published: dict[int, str] = {1: world.management.version("score", 1).digest}
    champion, applied = 1, 1
    archives = [world.archive() for _ in range(rounds)]
    with calling(world):
        for turn in range(rounds):
            killer = threading.Timer(chance.uniform(0, 0.6), kill_control, (world.server,))
            killer.start()
            publish = partial(world.management.publish, "score", archives[turn], idempotency_key=f"publish-{turn}")
            version = acknowledged(publish).version
            assert version.number not in published
            published[version.number] = version.digest
            point = partial(world.management.set_alias, "score", "champion", version.number)
            champion = acknowledged(point).version
            ready = (str(chance.choice(list(published))),)
            spec = EndpointSpec(name="score", model="score", traffic={"champion": 100}, ready=ready)
            applied = acknowledged(partial(world.management.apply_endpoint, spec)).revision
            killer.join()
            assert acknowledged(lambda: world.management.model("score").aliases) == {"champion": champion}
    found = {v.number: v.digest for page in pages_of(world) for v in page}
    assert found == published
    world.until_ready("score", applied)
    world.until_answering(champion)
    statuses = world.management.endpoint("score").status
    assert {route.version for route in statuses.routes} <= set(published)
    for number, digest in published.items():
        target = world.management.archive("score", number, world.folder / f"copy-{number}.limen")
        assert inspect(target).digest == digest


def acknowledged(work: Callable[[], T]) -> T:
    """Ask until there is an answer, as somebody does whose connection has been cut."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            return work()
        except Unavailable:
            assert time.monotonic() < until
            time.sleep(0.05)


def kill_control(server: Server) -> None:
    for pid in server.children("control"):
        os.kill(pid, signal.SIGKILL)


def pages_of(world: World):
    page = world.management.versions("score", limit=20)
    yield page.items
    while page.next:
        page = world.management.versions("score", limit=20, cursor=page.next)
        yield page.items


def test_f11_control_killed_at_random_points_loses_nothing_that_was_acknowledged(own_world):
    killed_at_random(own_world, rounds=5, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_f11_control_killed_a_hundred_times_loses_nothing_that_was_acknowledged(own_world):
    killed_at_random(own_world, rounds=100, seed=2)
