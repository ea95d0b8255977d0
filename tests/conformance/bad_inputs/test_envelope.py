"""B36–B38, B44 and B45: ids, parameters, versions and names."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.conformance.bad_inputs.entries import ENTRIES, JSON_INFER, PREDICT, Entry, short
from tests.conformance.serving.expectations import GOOD, MARKER, refused
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.paths import every_path
from tests.conformance.serving.wire import Answer

every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=repr)
BAD_IDS = [MARKER + " ", "x" * 129, "x" * (1 << 20), "a\r\nx-evil: 1", "\x1b[31m", "a\0", "é", "a\n", "a/b", '"', "<b>"]


def with_members(entry: Entry, **members: Any) -> bytes:
    return json.dumps({**entry.value, **members}).encode()


@every_entry
@pytest.mark.parametrize("value", [*BAD_IDS, 1, ["a"], {}, True], ids=short)
def test_b36_an_id_is_safe_in_logs_and_headers(gateway: Gateway, entry: Entry, value: Any):
    answer = entry.send(gateway, with_members(entry, id=value))
    refused(answer, 400, "INVALID_ID", "INVALID_FIELD", "VALUE")
    assert "x-evil" not in answer.headers


@every_entry
@pytest.mark.parametrize("key", ["id", "parameters", "outputs", "model_name"])
def test_null_is_the_same_as_leaving_out_for_oip_clients_that_write_every_key(gateway: Gateway, entry: Entry, key: str):
    answer = entry.send(gateway, with_members(entry, **{key: None}))
    if entry is PREDICT:
        refused(answer, 400, "INVALID_ID", "INVALID_FIELD", "VALUE", "INVALID_PARAMETER", "UNKNOWN_FIELD")
    else:
        assert answer.status == 200, answer


@every_entry
def test_b36_an_empty_id_is_none_where_the_protocol_says_so(gateway: Gateway, entry: Entry):
    answer = entry.send(gateway, with_members(entry, id=""))
    if entry is PREDICT:
        refused(answer, 400, "INVALID_ID", "INVALID_FIELD", "VALUE")
        return
    assert answer.status == 200
    assert "id" not in json.loads(
        answer.body[: int(answer.headers.get("inference-header-content-length", len(answer.body)))]
    )
    assert answer.headers["x-request-id"]


@every_entry
def test_an_id_is_echoed_on_success_and_on_error(gateway: Gateway, entry: Entry):
    good = entry.send(gateway, with_members(entry, id="caller-1"))
    assert good.headers["x-request-id"] == "caller-1"
    if entry is not PREDICT:
        assert good.json()["id"] == "caller-1"
    # Refused by the decoder, and refused by the contract.
    for key in ("inputs", "instances"):
        if key in entry.value:
            for value in ([], [{}], [1]):
                bad = with_members(entry, id="caller-2", **{key: value})
                assert refused(entry.send(gateway, bad), 400)["request_id"] == "caller-2"
    bad = with_members(entry, id="caller-3", parameters={"sequence_id": 1})
    assert refused(entry.send(gateway, bad), 400)["request_id"] == "caller-3"


def test_requests_without_an_id_get_different_ones(gateway: Gateway):
    ids = {gateway.call("POST", JSON_INFER.path, GOOD).headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize("value", ["x" * 129, "a b", "\x85", "a\tb", MARKER + "!", "", "é", "a, b"])
@pytest.mark.parametrize("path", ["/v2", "/v2/models/pair/ready", "/nowhere"])
def test_b36_a_bad_request_id_header_is_replaced(gateway: Gateway, path: str, value: str):
    answer = gateway.call("GET", path, headers={"x-request-id": value})
    assert answer.headers["x-request-id"] != value.strip()
    assert answer.headers["x-request-id"].replace("-", "").isalnum()


@pytest.mark.parametrize("path", ["/v2", "/nowhere", "/v2/models/PAIR"])
def test_a_good_request_id_header_is_echoed(gateway: Gateway, path: str):
    assert (
        gateway.call("GET", path, headers={"x-request-id": "trace:1.a_b-c"}).headers["x-request-id"] == "trace:1.a_b-c"
    )


BAD_PARAMETERS: list[tuple[Any, str]] = [
    ({"sequence_id": 1}, "UNSUPPORTED"),
    ({"sequence_id": 2**64}, "UNSUPPORTED"),
    ({"sequence_start": True}, "UNSUPPORTED"),
    ({"priority": -1}, "INVALID_PARAMETER"),
    ({"priority": 2**64}, "INVALID_PARAMETER"),
    ({"priority": "1"}, "INVALID_PARAMETER"),
    ({"timeout": 1.5}, "INVALID_PARAMETER"),
    ({"timeout": True}, "INVALID_PARAMETER"),
    ({"timeout": -1}, "INVALID_PARAMETER"),
    ({"headers": "x"}, "INVALID_PARAMETER"),
    ({"triton_enable_empty_final_response": True}, "INVALID_PARAMETER"),
    ({f"triton_{MARKER}": MARKER}, "INVALID_PARAMETER"),
    ({"binary_data_output": "yes"}, "INVALID_PARAMETER"),
    ({"binary_data_output": 1}, "INVALID_PARAMETER"),
    ({f"p{i}": i for i in range(65)}, "INVALID_PARAMETER"),
    ({"a": {}}, "INVALID_PARAMETER"),
    ({"a": [1]}, "INVALID_PARAMETER"),
    ({"a": None}, "INVALID_PARAMETER"),
    ([], "INVALID_PARAMETER"),
    ("x", "INVALID_PARAMETER"),
    ({"headers": {}}, "INVALID_PARAMETER"),
    ({"timeout": None}, "INVALID_PARAMETER"),
]


@every_entry
@pytest.mark.parametrize(("parameters", "code"), BAD_PARAMETERS, ids=short)
def test_b37_parameters_of_the_protocol_are_not_the_callers(gateway: Gateway, entry: Entry, parameters: Any, code: str):
    codes = (code, "VALUE") if entry is PREDICT else (code,)
    refused(entry.send(gateway, with_members(entry, parameters=parameters)), 400, *codes)


@every_entry
def test_b37_other_parameters_go_to_the_model(gateway: Gateway, entry: Entry):
    parameters = {"temperature": 0.5, "beam": 3, "mode": "fast", "debug": False, "a key\r\n": "\x1b", "priority": 1}
    answer = entry.send(gateway, with_members(entry, parameters=parameters))
    assert answer.status == 200, answer


def test_b37_what_a_model_does_to_its_parameters_stays_in_its_call(gateway: Gateway):
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
    for parameters, count in (({}, 0), ({"mode": 1}, 1)) * 3:
        answer = gateway.call("POST", "/v2/models/greedy/infer", {"inputs": [tensor], "parameters": parameters})
        assert answer.json()["outputs"][0]["data"] == [count]
        answer = gateway.call("POST", "/v1/models/greedy:predict", {"instances": [{"x": 1}], "parameters": parameters})
        assert answer.json()["predictions"] == [{"y": count}]


@pytest.mark.parametrize(
    "text", [b"-1", b"1.5", b"abc", b"1e3", b"9" * 13, b"0" * 11 + b"1" + b"9" * 5000, b"0", b"", b"\xb2"]
)
@every_entry
def test_a_timeout_header_is_a_whole_number_of_milliseconds(gateway: Gateway, entry: Entry, text: bytes):
    answer = entry.send(gateway, entry.good, {"x-request-timeout-ms": text.decode("latin-1")})
    refused(answer, 400, "INVALID_HEADER")


@every_entry
def test_a_deadline_that_has_passed_is_said_so(gateway: Gateway, entry: Entry):
    answer = entry.send(gateway, with_members(entry, parameters={"timeout": 1}))
    refused(answer, 504, "DEADLINE_EXCEEDED")


SHARED = {"shared_memory_region": MARKER, "shared_memory_byte_size": 8, "shared_memory_offset": 0}


def test_b38_shared_memory_is_not_looked_up(gateway: Gateway):
    tensor = {"name": "a", "shape": [1, 2], "datatype": "FP32", "parameters": SHARED}
    for inputs in (
        [tensor, GOOD["inputs"][1]],
        [{**tensor, "parameters": {f"shared_memory_{MARKER}": 1}}, GOOD["inputs"][1]],
    ):
        refused(gateway.call("POST", JSON_INFER.path, {"inputs": inputs}), 400, "UNSUPPORTED")
    outputs = [{"name": "sum", "parameters": SHARED}]
    refused(gateway.call("POST", JSON_INFER.path, {**GOOD, "outputs": outputs}), 400, "UNSUPPORTED")
    for path in ("/v2/systemsharedmemory/status", "/v2/cudasharedmemory/status"):
        refused(gateway.call("GET", path), 404, "NOT_FOUND")
    refused(gateway.call("POST", f"/v2/systemsharedmemory/region/{MARKER}/register", {"key": "/x"}), 404, "NOT_FOUND")


def ask(gateway: Gateway, path: str) -> Answer:
    """Ask for a path as its own method would."""
    if path.endswith(("/infer", ":predict", ":stream", "/generate", "/generate_stream")):
        return gateway.call("POST", path, PREDICT.value if path.endswith((":predict", ":stream")) else GOOD)
    return gateway.call("GET", path)


BAD_VERSIONS = [
    "0",
    "-1",
    "01",
    "latest",
    "1e3",
    "1" + "0" * 30,
    "%D9%A1",
    "%EF%BC%91",
    "1%20",
    "+1",
    "1.0",
    "0x1",
    "%2e",
    MARKER,
]


@pytest.mark.parametrize("version", [*BAD_VERSIONS, "2", "999999999999999999"])
def test_b44_a_version_is_a_whole_number_and_exists(gateway: Gateway, version: str):
    for path in every_path(gateway, version=version):
        if "/versions/" in path:
            refused(ask(gateway, path), 404 if version in ("2", "999999999999999999") else (400, 404))


@pytest.mark.parametrize(
    "path", ["/v2/models/pair/versions", "/v2/models/pair/versions//infer", "/v1/models/pair/versions/:predict"]
)
def test_b44_no_version_is_not_a_version(gateway: Gateway, path: str):
    refused(ask(gateway, path), (400, 404))


TRAVERSAL = [
    "..",
    "../..",
    "../../etc/passwd",
    "pair/..",
    "./pair",
    "pair/../pair",
    "..\\..",
    "...",
    "a..b",
    "-",
    ".pair",
]
ENCODED = [
    "..%2f..%2fetc", "%2e%2e", "%2e%2e%2f", "%252e%252e", "%252e%252e%252f", "pair%2f..", "..;/pair", ";a=b/../pair", "pair;v=1",
    "pair%00", "%00", "pair%0d%0ax:1", "pair%20", "%20pair", "pair%09", "%0bpair", "%0c", "pair%c2%a0", "%e2%80%8fpair", "%e2%80%8b",
    "pair.", "%c0%ae%c0%ae", "%c0%afpair", "%zz", "%", "pair%", "%5c", "%ef%bd%90air",
]  # fmt: skip
OTHERS = [
    "PAIR",
    "Pair",
    "nosuch",
    "con",
    "nul",
    "a" * 64,
    "a" * 300,
    "é",
    "e\u0301",
    "\u200fpair",
    "pa_ir",
    "{m}",
    MARKER,
    "pair,typed",
]


@pytest.mark.parametrize("name", [*TRAVERSAL, *ENCODED, *(quote(name, safe=",{}") for name in OTHERS)])
def test_b45_only_the_models_own_name_finds_it(gateway: Gateway, name: str):
    for path in every_path(gateway, model=name):
        if name in path:
            refused(ask(gateway, path), (400, 404))


def test_b45_a_name_is_decoded_once(gateway: Gateway):
    assert gateway.call("GET", "/v2/models/p%61ir/ready").json() == {"name": "pair", "ready": True}
    refused(gateway.call("GET", "/v2/models/p%2561ir/ready"), 400, "INVALID_NAME")
