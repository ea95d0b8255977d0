"""The management extensions over REST and gRPC alike: model configuration, model repository, logging; no traces (checklist 8, 10)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2

from limen.gateway.engine.errors import STATUS as HTTP_STATUS
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc._generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from limen.gateway.grpc.config import GrpcConfig
from limen.gateway.grpc.server import GrpcServer
from limen.gateway.grpc.status import STATUS as GRPC_STATUS
from limen.serving.link.operations import Operations
from limen.serving.messages.lines import AskLoad, AskUnload
from tests.conformance.serving.control import ScriptedControl
from tests.conformance.serving.expectations import assert_right, refused
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.models import write_all

INDEX = [
    {"name": "pair", "version": "1", "state": "READY", "reason": ""},
    {"name": "other", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"},
    {"name": "other", "version": "3", "state": "LOADING", "reason": ""},
    {"name": "empty", "state": "UNAVAILABLE", "reason": "no version has been loaded yet"},
]
LOG = {
    "log_file": "",
    "log_info": False,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}
NEITHER = [("text", 1), ("null", None), ("list", [True])]


class Managed(NamedTuple):
    """A gateway on both transports, and what stands behind it."""

    gateway: Gateway
    stub: GRPCInferenceServiceStub
    control: ScriptedControl


def started(folder: Path, models: Path, engine: str, *, is_explicit: bool) -> Iterator[Managed]:
    control = ScriptedControl(str(folder / "control"))
    operations = Operations(str(folder / "control"), is_explicit=is_explicit)
    gateway = Gateway(write_all(models), operations=operations)
    server = gateway.do(lambda: GrpcServer(gateway.plane, GrpcConfig(engine=engine)))
    port = gateway.do(lambda: server.start("127.0.0.1", 0))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Managed(gateway, GRPCInferenceServiceStub(channel), control)
    gateway.do(lambda: server.stop(0))
    gateway.stop()
    control.stop()


@pytest.fixture(scope="module", params=["native", "grpcio"])
def managed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """A server whose callers may load and unload."""
    folder = tmp_path_factory.mktemp("managed")
    yield from started(folder, folder / "models", request.param, is_explicit=True)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """A server whose callers may only look."""
    folder = tmp_path_factory.mktemp("fixed")
    yield from started(folder, folder / "models", "native", is_explicit=False)


@pytest.fixture(autouse=True)
def right(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever was asked, the server is alive and right afterwards."""
    yield
    for name in ("managed", "fixed"):
        if name in request.fixturenames:
            found: Managed = request.getfixturevalue(name)
            found.control.is_silent = False
            found.control.heard.clear()
            assert_right(found.gateway)


def both_refuse(managed: Managed, path: str, body: Any, call: Any, message: Any) -> str:
    """Assert that both transports refuse with the same code, reason and paths, and return the reason."""
    method = "GET" if body is ... else "POST"
    answer = managed.gateway.call(method, path, None if body is ... else body)
    told = refused(answer, answer.status)
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=60)
    packed = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status_pb2.Status.FromString(packed).details:
        for into in (info, bad):
            detail.Unpack(into)
    codes = {GRPC_STATUS[code] for code, status in HTTP_STATUS.items() if status == answer.status}
    assert caught.value.code() in codes
    assert (told["error"], told["code"]) == (caught.value.details(), info.reason)
    assert [d["path"] for d in told["details"]] == [v.field for v in bad.field_violations]
    return f"{answer.status} {told['code']}"


# -- model configuration ---------------------------------------------------------------------------------------------------


def config(managed: Managed, model: str, version: str = "") -> dict[str, Any]:
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/config"
    answer = managed.gateway.call("GET", path)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json()
    return found


def test_the_configuration_says_how_a_model_is_run(managed: Managed):
    tensor = {"data_type": "TYPE_FP32", "dims": [2]}
    assert config(managed, "pair") == {
        "name": "pair",
        "platform": "python",
        "backend": "python",
        "version_policy": {"specific": {"versions": [1]}},
        "max_batch_size": 4,
        "input": [{"name": name, **tensor, "optional": False} for name in ("a", "b")],
        "output": [{"name": name, **tensor} for name in ("sum", "difference")],
        "instance_group": [{"name": "pair", "kind": "KIND_CPU", "count": 1}],
        "model_transaction_policy": {"decoupled": False},
        "dynamic_batching": {"max_queue_delay_microseconds": 0},
    }
    assert config(managed, "pair", "1") == config(managed, "pair")


def test_both_transports_say_the_same_of_every_model(managed: Managed):
    models = managed.gateway.call("GET", "/v2/models").json()["models"]
    kinds = set()
    for model in models:
        rest = config(managed, model)
        found = managed.stub.ModelConfig(pb.ModelConfigRequest(name=model), timeout=60).config
        told = MessageToDict(
            found,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            use_integers_for_enums=False,
        )
        for field in (*told["input"], *told["output"]):
            field["dims"] = [int(d) for d in field["dims"]]
        if "dynamic_batching" in told:
            delay = told["dynamic_batching"].pop("max_queue_delay_microseconds")
            told["dynamic_batching"]["max_queue_delay_microseconds"] = int(delay)
        specific = told["version_policy"]["specific"]
        specific["versions"] = [int(v) for v in specific["versions"]]
        assert told == rest
        metadata = managed.gateway.call("GET", f"/v2/models/{model}").json()
        for said, key in ((metadata["inputs"], "input"), (metadata["outputs"], "output")):
            start = 1 if rest["max_batch_size"] else 0  # without batches there is no batch axis
            assert [(t["name"], t["shape"][start:]) for t in said] == [(f["name"], f["dims"]) for f in rest[key]]
            kinds |= {
                (t["datatype"], f["data_type"].removeprefix("TYPE_")) for t, f in zip(said, rest[key], strict=True)
            }
        assert not ("dynamic_batching" in rest and rest["model_transaction_policy"]["decoupled"])
    assert ("BYTES", "STRING") in kinds
    assert all(wire in {said, "BYTES"} for wire, said in kinds)


@pytest.mark.parametrize(
    ("model", "version"), [("nothing", ""), ("pair", "9"), ("pair", "x"), ("Pair", ""), ("pair@no", "")]
)
def test_a_model_that_is_not_there_has_no_configuration(managed: Managed, model: str, version: str):
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/config"
    both_refuse(managed, path, ..., managed.stub.ModelConfig, pb.ModelConfigRequest(name=model, version=version))


# -- model repository ------------------------------------------------------------------------------------------------------


def test_settings_may_come_as_text_as_tritons_asynchronous_client_sends_them(managed: Managed):
    text, octets = {"content-type": "text/plain; charset=utf-8"}, {"content-type": "application/octet-stream"}
    for path, body, said in (("/v2/repository/index", b"", octets), ("/v2/logging", b"{}", text)):
        assert managed.gateway.call("POST", path, body, said).status == 200
    form = {"content-type": "application/x-www-form-urlencoded"}
    refused(managed.gateway.call("POST", "/v2/logging", b"{}", form), 415)
    refused(managed.gateway.call("POST", "/v2/models/pair/infer", b"{}", text), 415)


@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/repository/index/", "/v2/repository/elsewhere/index"])
@pytest.mark.parametrize("body", [None, {}, {"ready": False}])
def test_the_index_shows_every_version_and_why_one_does_not_answer(managed: Managed, path: str, body: Any):
    answer = managed.gateway.call("POST", path, body)
    assert (answer.status, answer.json()) == (200, INDEX)


@pytest.mark.parametrize("repository", ["", "elsewhere"])
def test_the_index_is_the_same_over_grpc(managed: Managed, repository: str):
    found = managed.stub.RepositoryIndex(pb.RepositoryIndexRequest(repository_name=repository), timeout=60)
    assert [(m.name, m.version, m.state, m.reason) for m in found.models] == [
        (e["name"], e.get("version", ""), e["state"], e["reason"]) for e in INDEX
    ]


def test_the_index_can_be_of_what_answers_alone(managed: Managed):
    assert managed.gateway.call("POST", "/v2/repository/index", {"ready": True}).json() == INDEX[:1]
    found = managed.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=60)
    assert [m.name for m in found.models] == ["pair"]


def test_the_index_is_not_got(managed: Managed):
    answer = managed.gateway.call("GET", "/v2/repository/index")
    refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "body",
    [
        *[{"ready": value} for _, value in NEITHER],
        {"ready": "true"},
        {"else": 1},
        [],
        True,
        b"{",
        b"{}{}",
        b'{"ready":true,"ready":true}',
    ],
    ids=repr,
)
def test_an_index_is_asked_for_properly(managed: Managed, body: Any):
    refused(managed.gateway.call("POST", "/v2/repository/index", body), 400)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository",
        "/v2/repository/",
        "/v2/repository/models",
        "/v2/repository/models/pair",
        "/v2/repository/models/pair/reload",
        "/v2/repository//index",
        "/v2/repository/a/b/index",
        "/v2/repository/a/models/pair/load/more",
        "/v2/models/pair/load",
    ],
)
def test_there_is_nothing_else_in_a_repository(managed: Managed, path: str):
    refused(managed.gateway.call("POST", path, {}), 404)


def test_models_are_loaded_and_unloaded(managed: Managed):
    gateway, stub = managed.gateway, managed.stub
    managed.control.changes()
    for body in (None, {}, {"parameters": {}}):
        answer = gateway.call("POST", "/v2/repository/models/other/load", body)
        assert (answer.status, answer.body) == (200, b"")
    stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="other"), timeout=60)
    assert managed.control.changes() == [AskLoad("other")] * 4
    for dependents in (False, True):
        parameters = {"unload_dependents": pb.ModelRepositoryParameter(bool_param=dependents)}
        body = {"parameters": {"unload_dependents": dependents}}
        assert gateway.call("POST", "/v2/repository/models/pair/unload", body).status == 200
        request = pb.RepositoryModelUnloadRequest(model_name="pair", parameters=parameters)
        stub.RepositoryModelUnload(request, timeout=60)
    assert managed.control.changes() == [AskUnload("pair")] * 4


LOAD_PARAMETERS: list[tuple[str, Any, pb.ModelRepositoryParameter, str]] = [
    ("config", "{}", pb.ModelRepositoryParameter(string_param="{}"), "501 UNSUPPORTED"),
    ("file:1/model.onnx", "AAAA", pb.ModelRepositoryParameter(bytes_param=b"123"), "501 UNSUPPORTED"),
    ("c4n4ry", "x", pb.ModelRepositoryParameter(string_param="x"), "400 UNKNOWN_FIELD"),
    ("unload_dependents", True, pb.ModelRepositoryParameter(bool_param=True), "400 UNKNOWN_FIELD"),
]


@pytest.mark.parametrize(
    ("key", "value", "parameter", "expected"), LOAD_PARAMETERS, ids=[p[0] for p in LOAD_PARAMETERS]
)
def test_a_load_brings_nothing_along(managed: Managed, key: str, value: Any, parameter: Any, expected: str):
    message = pb.RepositoryModelLoadRequest(model_name="pair", parameters={key: parameter})
    body = {"parameters": {key: value}}
    path = "/v2/repository/models/pair/load"
    assert both_refuse(managed, path, body, managed.stub.RepositoryModelLoad, message) == expected
    assert managed.control.changes() == []


@pytest.mark.parametrize(
    ("key", "value", "parameter"),
    [
        ("unload_dependents", 1, pb.ModelRepositoryParameter(int64_param=1)),
        ("unload_dependents", None, pb.ModelRepositoryParameter()),
        ("c4n4ry", True, pb.ModelRepositoryParameter(bool_param=True)),
    ],
)
def test_an_unload_takes_one_parameter(managed: Managed, key: str, value: Any, parameter: Any):
    message = pb.RepositoryModelUnloadRequest(model_name="pair", parameters={key: parameter})
    body = {"parameters": {key: value}}
    path = "/v2/repository/models/pair/unload"
    assert both_refuse(managed, path, body, managed.stub.RepositoryModelUnload, message).startswith("400")
    assert managed.control.changes() == []


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize("body", [{"parameters": 1}, {"parameters": None}, {"else": {}}, [], b"{"], ids=repr)
def test_a_change_is_asked_for_properly(managed: Managed, verb: str, body: Any):
    refused(managed.gateway.call("POST", f"/v2/repository/models/pair/{verb}", body), 400)
    assert managed.control.changes() == []


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize(
    ("name", "repository", "expected"),
    [
        ("nothing", "", "404 NOT_FOUND"),
        ("c4n4ry?", "", "400 INVALID_NAME"),
        ("pair@champion", "", "400 INVALID_NAME"),
        ("pair", "elsewhere", "501 UNSUPPORTED"),
    ],
)
def test_a_change_is_of_a_model_that_is_there(managed: Managed, verb: str, name: str, repository: str, expected: str):
    kind, call = {
        "load": (pb.RepositoryModelLoadRequest, managed.stub.RepositoryModelLoad),
        "unload": (pb.RepositoryModelUnloadRequest, managed.stub.RepositoryModelUnload),
    }[verb]
    path = f"/v2/repository/{repository + '/' if repository else ''}models/{name.replace('?', '%3F')}/{verb}"
    message = kind(model_name=name, repository_name=repository)
    assert both_refuse(managed, path, {}, call, message) == expected


def test_a_load_that_fails_says_why(managed: Managed):
    message = pb.RepositoryModelLoadRequest(model_name="broken")
    path = "/v2/repository/models/broken/load"
    assert both_refuse(managed, path, {}, managed.stub.RepositoryModelLoad, message) == "409 INVALID_PACKAGE"
    answer = managed.gateway.call("POST", path).json()
    assert (answer["error"], answer["details"]) == ("version 2: no", [{"path": "artifact", "reason": "is not there"}])


def test_without_control_nothing_is_managed_and_everything_is_served(managed: Managed):
    managed.control.is_silent = True
    stub = managed.stub
    for path, call, message in (
        ("/v2/repository/index", stub.RepositoryIndex, pb.RepositoryIndexRequest()),
        ("/v2/repository/models/pair/load", stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="pair")),
        ("/v2/logging", stub.LogSettings, pb.LogSettingsRequest()),
    ):
        assert both_refuse(managed, path, {}, call, message) == "503 NOT_READY"
    assert config(managed, "pair")["name"] == "pair"
    assert_right(managed.gateway)


# -- web pages -------------------------------------------------------------------------------------------------------------

CHANGES = [
    ("/v2/repository/models/pair/unload", None),
    ("/v2/repository/models/other/load", None),
    ("/v2/repository/elsewhere/models/pair/unload", None),
    ("/v2/logging", {"log_info": True}),
    ("/v2/trace/setting", {"trace_level": ["OFF"]}),
    ("/v2/models/pair/trace/setting", {"trace_level": ["OFF"]}),
]
"""Everything that changes what the server does for others."""
PAGES = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9000"},
    {"origin": "http://localhost", "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", PAGES, ids=str)
@pytest.mark.parametrize(("path", "body"), CHANGES)
def test_b82_a_page_of_another_site_changes_nothing(managed: Managed, path: str, body: Any, headers: dict[str, str]):
    answer = managed.gateway.call("POST", path, body, headers)
    told = refused(answer, 403)
    assert (told["code"], managed.control.heard) == ("PERMISSION_DENIED", [])


@pytest.mark.parametrize("headers", PAGES, ids=str)
def test_b82_the_refusal_is_remembered_with_the_head_and_only_with_that_one(managed: Managed, headers: dict[str, str]):
    path = "/v2/repository/models/pair/unload"
    for _ in range(2):
        assert managed.gateway.call("POST", path, b"", headers).status == 403
        assert managed.gateway.call("POST", path, b"").status == 200
    assert managed.control.heard == [AskUnload("pair")] * 2


def test_a_page_of_the_server_itself_and_a_program_may_change_it(managed: Managed):
    for headers in ({"origin": "http://localhost", "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {}):
        assert managed.gateway.call("POST", "/v2/logging", {"log_info": False}, headers).status == 200


@pytest.mark.parametrize("headers", PAGES, ids=str)
def test_what_changes_nothing_is_answered_and_no_page_may_read_the_answer(managed: Managed, headers: dict[str, str]):
    for method, path in (("GET", "/v2/logging"), ("POST", "/v2/repository/index"), ("GET", "/v2/models/pair/config")):
        answer = managed.gateway.call(method, path, {} if method == "POST" else None, headers)
        assert answer.status == 200
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("headers", PAGES, ids=str)
@pytest.mark.parametrize("path", ["/v2/models/pair/infer", "/v1/models/pair:predict"])
def test_a_page_of_another_site_has_no_model_run_by_a_body_without_a_type(
    managed: Managed, path: str, headers: dict[str, str]
):
    assert managed.gateway.call("POST", path, b"{}", headers).status == 403


def test_no_page_may_ask_before_it_sends(managed: Managed):
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    answer = managed.gateway.call("OPTIONS", "/v2/models/pair/infer", None, headers)
    assert answer.status == 405
    assert not [name for name in answer.headers if name.startswith("access-control-")]


# -- without --model-control explicit --------------------------------------------------------------------------------------


def test_callers_change_nothing_unless_the_server_says_so(fixed: Managed):
    stub = fixed.stub
    for path, body, call, message in (
        ("models/pair/load", {}, stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="pair")),
        ("models/pair/unload", {}, stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="pair")),
    ):
        assert both_refuse(fixed, f"/v2/repository/{path}", body, call, message) == "400 UNSUPPORTED"
    change = pb.LogSettingsRequest(settings={"log_error": pb.LogSettingsRequest.SettingValue(bool_param=False)})
    assert both_refuse(fixed, "/v2/logging", {"log_error": False}, stub.LogSettings, change) == "400 UNSUPPORTED"
    assert fixed.control.heard == []
    assert "--model-control explicit" in fixed.gateway.call("POST", "/v2/repository/models/pair/load").json()["error"]


def test_callers_may_always_look(fixed: Managed):
    reason = "not loaded; `limen status` shows why"
    seen = [*INDEX[:-1], INDEX[-1] | {"reason": reason}]
    assert fixed.gateway.call("POST", "/v2/repository/index").json() == seen
    found = fixed.stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=60)
    assert [m.reason for m in found.models] == [e["reason"] for e in seen]
    assert fixed.gateway.call("GET", "/v2/logging").json() == LOG


def test_an_extension_is_named_when_all_of_it_is_there(fixed: Managed, managed: Managed):
    for server, more in ((fixed, set()), (managed, {"model_repository", "logging"})):
        over_rest = server.gateway.call("GET", "/v2").json()["extensions"]
        assert over_rest == list(server.stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=60).extensions)
        always = {"classification", "schedule_policy", "parameters", "binary_tensor_data", "model_configuration"}
        assert set(over_rest) == always | more


def test_a_gateway_without_control_offers_none_of_it(gateway: Gateway):
    for path in ("/v2/repository/index", "/v2/repository/models/pair/load", "/v2/logging"):
        refused(gateway.call("POST", path, {}), 404, "NOT_FOUND")


# -- logging and traces ----------------------------------------------------------------------------------------------------


def log_settings(managed: Managed, **settings: pb.LogSettingsRequest.SettingValue) -> dict[str, Any]:
    answer = managed.stub.LogSettings(pb.LogSettingsRequest(settings=settings), timeout=60)
    return {k: getattr(v, v.WhichOneof("parameter_choice")) for k, v in answer.settings.items()}


def test_what_is_logged_is_changed_over_either_transport_and_shown_over_both(managed: Managed):
    gateway, value = managed.gateway, pb.LogSettingsRequest.SettingValue
    assert gateway.call("GET", "/v2/logging").json() == log_settings(managed) == LOG
    changed = gateway.call("POST", "/v2/logging", {"log_info": True, "log_verbose_level": 0, "log_format": "default"})
    assert changed.json() == LOG | {"log_info": True}
    assert log_settings(managed, log_error=value(bool_param=False)) == LOG | {"log_info": True, "log_error": False}
    back = log_settings(managed, log_info=value(bool_param=False), log_error=value(bool_param=True))
    assert back == gateway.call("POST", "/v2/logging", {}).json() == LOG


@pytest.mark.parametrize(
    ("key", "value", "parameter", "expected"),
    [
        ("log_file", "/tmp/c4n4ry", {"string_param": "/tmp/c4n4ry"}, "501 UNSUPPORTED"),
        ("log_info", "c4n4ry", {"string_param": "c4n4ry"}, "400 INVALID_FIELD"),
        ("log_info", 1, {"uint32_param": 1}, "400 INVALID_FIELD"),
        ("log_info", None, {}, "400 INVALID_FIELD"),
        ("log_verbose_level", 1, {"uint32_param": 1}, "400 INVALID_FIELD"),
        ("log_verbose_level", False, {"bool_param": False}, "400 INVALID_FIELD"),
        ("log_format", "ISO8601", {"string_param": "ISO8601"}, "400 INVALID_FIELD"),
        ("c4n4ry", True, {"bool_param": True}, "400 UNKNOWN_FIELD"),
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_of_it_is_done(managed: Managed, key, value, parameter, expected):
    kind = pb.LogSettingsRequest.SettingValue
    message = pb.LogSettingsRequest(settings={"log_warning": kind(bool_param=False), key: kind(**parameter)})
    body = {"log_warning": False, key: value}
    assert both_refuse(managed, "/v2/logging", body, managed.stub.LogSettings, message) == expected
    assert managed.gateway.call("GET", "/v2/logging").json() == LOG


@pytest.mark.parametrize("body", [b"", b"{", [], True, b'{"log_info":true,"log_info":true}'], ids=repr)
def test_log_settings_are_an_object(managed: Managed, body: Any):
    refused(managed.gateway.call("POST", "/v2/logging", body), 400)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/v2/trace/setting", "/v2/models/pair/trace/setting"])
def test_there_are_no_traces_to_set(managed: Managed, method: str, path: str):
    refused(managed.gateway.call(method, path, None if method == "GET" else {}), 501, "UNSUPPORTED")


# -- aliases ---------------------------------------------------------------------------------------------------------------


def test_an_alias_stands_for_its_version_everywhere(managed: Managed):
    gateway, stub = managed.gateway, managed.stub
    gateway.do(lambda: gateway.versions.set_aliases("pair", {"champion": "1"}))
    called = "pair@champion"
    assert gateway.call("GET", f"/v2/models/{called}").json() == gateway.call("GET", "/v2/models/pair").json()
    assert list(stub.ModelMetadata(pb.ModelMetadataRequest(name=called), timeout=60).versions) == ["1"]
    assert config(managed, called) == config(managed, called, "1") == config(managed, "pair")
    assert gateway.call("GET", f"/v2/models/{called}/ready").json()["ready"]
    assert gateway.call("GET", f"/v1/models/{called}").json() == gateway.call("GET", "/v1/models/pair").json()
    assert [s.version for s in gateway.do(lambda: gateway.plane.directory.statuses(called))] == ["1"]
    refused(gateway.call("GET", f"/v2/models/{called}/versions/2/config"), 404)
    gateway.do(lambda: gateway.versions.set_aliases("pair", {}))
    refused(gateway.call("GET", f"/v1/models/{called}"), 404)
