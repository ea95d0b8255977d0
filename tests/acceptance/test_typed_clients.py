"""`limen proto`, `openapi` and `client` give files that work: against a package, and against a server that is asked by name."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from tests.services.packages import write_countdown, write_fields, write_score
from tests.services.process import Server, limen, refused, serving

ROW = {"grade": "B", "zip": "941xx", "income": 3.5, "steps": [[1, -1], [0, 3]], "photo": b"\x00\xff"}


def client_module(path: Path) -> ModuleType:
    """Import a generated client, which must not need anything of Limen."""
    assert "limen." not in path.read_text().replace("limen.models.", "").replace("limen.client.", "")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed")
    for write in (write_fields, write_score, write_countdown):
        write(folder / write.__name__.removeprefix("write_"))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    packages = [folder / name for name in ("fields", "score", "countdown")]
    with serving(*packages, "--trust-code", "--home", folder / "home", announcement=folder / "a.json") as server:
        yield server


@pytest.fixture(scope="module", params=["server", "package"])
def fields(request, server: Server, folder: Path) -> ModuleType:
    """The client of the model `fields`, made either way."""
    path = folder / f"fields_{request.param}.py"
    source = ("fields", "--server", server.http.base_url) if request.param == "server" else (folder / "fields",)
    done = limen("client", *source, "--output", path)
    assert (done.returncode, done.stdout.strip()) == (0, str(path)), done.stderr
    return client_module(path)


def test_a_server_and_a_package_give_the_same_files(server: Server, folder: Path):
    for command in ("proto", "client"):
        asked = limen(command, "score", "--server", server.http.base_url)
        assert asked.stdout == limen(command, folder / "score").stdout != ""
    asked, read = limen("openapi", "score", "--server", server.http.base_url), limen("openapi", folder / "score")
    assert json.loads(asked.stdout)["paths"].keys() == json.loads(read.stdout)["paths"].keys()


def test_the_proto_compiles(folder: Path, tmp_path: Path):
    assert limen("proto", folder / "fields", "-o", tmp_path / "fields.proto").returncode == 0
    out = tmp_path / "fields.pb"
    assert protoc.main(["protoc", f"-I{tmp_path}", f"--descriptor_set_out={out}", str(tmp_path / "fields.proto")]) == 0
    assert FileDescriptorSet.FromString(out.read_bytes()).file[0].package == "limen.models.fields.v1"


def test_the_client_calls_over_both_protocols_and_both_ways(fields: ModuleType, server: Server):
    address, target = str(server.http.base_url), server.grpc
    with fields.RestClient(address) as rest, fields.GrpcClient(target) as grpc:
        answers = [rest.predict([ROW, ROW], id="a-1"), grpc.predict([ROW, ROW], id="a-1")]

    async def asynchronous() -> None:
        async with fields.AsyncRestClient(address) as rest, fields.AsyncGrpcClient(target, version="1") as grpc:
            answers.extend([await rest.predict([ROW, ROW], id="a-1"), await grpc.predict([ROW, ROW], id="a-1")])

    asyncio.run(asynchronous())
    for answer in answers:
        assert (answer.model_name, answer.model_version, answer.id, answer.fallback) == ("fields", "1", "a-1", "")
        assert [(row["rows"], row["kind"], row["raw"]) for row in answer.predictions] == [(2, "small", b"\x00raw")] * 2


def test_mistakes_are_the_same_on_both_protocols(fields: ModuleType, server: Server):
    bad = ROW | {"grade": "Z"}
    failures = []
    with fields.RestClient(str(server.http.base_url)) as rest, fields.GrpcClient(server.grpc) as grpc:
        for client in (rest, grpc):
            with pytest.raises(fields.CallFailed) as caught:
                client.predict([ROW, bad], id="a-2")
            failures.append(caught.value)
    assert [f.status for f in failures] == [400, "INVALID_ARGUMENT"]
    for failed in failures:
        assert (failed.reason, failed.violations) == ("VALUE", (("instances[1].grade", "must be one of A, B, C"),))
        assert failed.id == "a-2"


def test_a_stream_comes_in_parts(server: Server, folder: Path, tmp_path: Path):
    limen("client", folder / "countdown", "-o", tmp_path / "countdown_client.py")
    countdown = client_module(tmp_path / "countdown_client.py")
    with countdown.GrpcClient(server.grpc) as client:
        assert [part.predictions for part in client.stream([{"n": 2}])] == [[{"value": 2}], [{"value": 1}]]

    async def asynchronous() -> list[object]:
        async with countdown.AsyncGrpcClient(server.grpc) as client:
            return [part.predictions async for part in client.stream([{"n": 2}])]

    assert asyncio.run(asynchronous()) == [[{"value": 2}], [{"value": 1}]]


def test_what_is_not_there_is_said(server: Server, folder: Path):
    told = refused("proto", "nobody", "--server", server.http.base_url)
    assert "has no such document of nobody: no model by that name" in told
    told = refused("client", "nobody", "--server", "http://127.0.0.1:1")
    assert "no server answers at http://127.0.0.1:1" in told
    assert "nothing found at" in refused("openapi", folder / "nothing")


def test_whatever_fails_is_one_kind_of_error(fields: ModuleType, server: Server):
    with fields.RestClient("http://127.0.0.1:9") as client, pytest.raises(fields.CallFailed) as caught:
        client.predict([ROW])
    assert (caught.value.status, caught.value.reason) == ("UNAVAILABLE", "NOT_READY")
    with fields.GrpcClient(server.grpc) as client:
        for change, reason in (
            ({"colour": "red"}, "is not a field of this model"),
            ({"income": "much"}, "has a value of another type"),
        ):
            with pytest.raises(fields.CallFailed) as caught:
                client.predict([ROW, {**ROW, **change}])
            assert caught.value.violations == ((f"instances[1].{next(iter(change))}", reason),)
