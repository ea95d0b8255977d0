"""Every path and method that there is, and that there is no other; what each refuses before it looks at anything."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest

from limen.admin.app import HANDLERS, ROOT
from limen.admin.strictness import DECLARED
from tests.conformance.admin.office import Office

LIST = {"limit", "cursor"}
MATRIX = {
    ("GET", "/models"): ("models.read", LIST | {"tag"}),
    ("GET", "/models/{m}"): ("models.read", set()),
    ("PATCH", "/models/{m}"): ("models.tag", set()),
    ("GET", "/models/{m}/versions"): ("models.read", LIST | {"tag", "retired"}),
    ("POST", "/models/{m}/versions"): ("models.publish", set()),
    ("GET", "/models/{m}/versions/{n}"): ("models.read", set()),
    ("PATCH", "/models/{m}/versions/{n}"): ("models.tag", set()),
    ("POST", "/models/{m}/versions/{n}/retire"): ("models.retire", set()),
    ("POST", "/models/{m}/versions/{n}/restore"): ("models.retire", set()),
    ("GET", "/models/{m}/versions/{n}/evidence"): ("models.read", LIST | {"kind"}),
    ("GET", "/models/{m}/versions/{n}/archive"): ("models.read", set()),
    ("GET", "/models/{m}/versions/{n}/signature"): ("models.read", set()),
    ("GET", "/models/{m}/versions/{n}/contract"): ("models.read", set()),
    ("GET", "/models/{m}/versions/{n}/openapi"): ("models.read", set()),
    ("GET", "/models/{m}/versions/{n}/proto"): ("models.read", set()),
    ("GET", "/models/{m}/diff"): ("models.read", {"from", "to"}),
    ("GET", "/models/{m}/aliases"): ("models.read", LIST),
    ("PUT", "/models/{m}/aliases/{a}"): ("aliases.set", set()),
    ("DELETE", "/models/{m}/aliases/{a}"): ("aliases.set", set()),
    ("GET", "/endpoints"): ("endpoints.read", LIST),
    ("GET", "/endpoints/{e}"): ("endpoints.read", set()),
    ("PUT", "/endpoints/{e}"): ("endpoints.apply", set()),
    ("DELETE", "/endpoints/{e}"): ("endpoints.apply", set()),
    ("GET", "/endpoints/{e}/history"): ("endpoints.read", LIST),
    ("POST", "/endpoints/{e}/preview"): ("endpoints.read", set()),
    ("GET", "/status"): ("server.read", set()),
    ("POST", "/reload"): ("server.reload", set()),
    ("GET", "/openapi.json"): ("server.read", set()),
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
PATHS = sorted({path for _, path in MATRIX})
NAMES = {"{m}": "credit", "{n}": "1", "{a}": "champion", "{e}": "credit"}


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """Return a management API; what is tested here does not touch the database."""
    office = Office(tmp_path / "home")
    yield office
    await office.http.aclose()
    office.stores.close()


def filled(path: str) -> str:
    for name, value in NAMES.items():
        path = path.replace(name, value)
    return path


def allowed(path: str) -> set[str]:
    found = {method for method, other in MATRIX if other == path}
    return found | ({"HEAD"} if "GET" in found else set())


def test_every_handler_is_in_the_matrix_and_declares_what_the_matrix_says():
    found = {}
    for handler in HANDLERS:
        [path], [method] = handler.paths, handler.http_methods
        declared = handler.opt[DECLARED]
        found[str(method), path.replace(":str}", "}")] = (declared.permission, set(declared.query))
    assert found == MATRIX


def test_the_application_has_no_route_but_those(office: Office):
    routes = {route.path_format for route in office.app._app.routes}
    assert {route.replace(":str}", "}") for route in routes} == {ROOT + path for path in PATHS}


def test_the_reference_lists_exactly_these(repository: Path):
    text = (repository / "docs/reference/management-api.md").read_text()
    rows = re.findall(r"^\| (GET|POST|PUT|PATCH|DELETE) \| `([^`]+)`", text, re.MULTILINE)
    assert sorted(rows) == sorted(MATRIX)


async def test_any_other_method_is_405_and_told_what_there_is(office: Office):
    for path in PATHS:
        for method in {*METHODS} - allowed(path):
            answer = await office.ask(method, filled(path))
            assert answer.status_code == 405, (method, path)
            assert method == "HEAD" or answer.json()["code"] == "METHOD_NOT_ALLOWED"
            assert {word.strip() for word in answer.headers["allow"].split(",")} == allowed(path)


NO_PATHS = ("", "/", "/nothing", "/models/a/b", "/models/credit/versions/1/weights", "/endpoints/credit/history/1",
            "/../status", "//models", "/docs", "/schema")  # fmt: skip


async def test_any_other_path_is_404(office: Office):
    office.add()
    for path in NO_PATHS:
        for method in ("GET", "POST", "DELETE"):
            answer = await office.ask(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND"), (method, path)


async def test_a_parameter_that_a_path_does_not_take_is_refused(office: Office):
    for method, path in MATRIX:
        for parameter in ("sort", "services", "m", "data", "request", "Limit", "limit "):
            answer = await office.ask(method, filled(path), {} if method in {"PUT", "PATCH"} else None, **KEYED)
            answer = await office.http.request(
                method, ROOT + filled(path), params={parameter: ";drop"}, headers=PUBLISHING
            )
            office.check(answer)
            assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER"), parameter
            assert "drop" not in answer.text


KEYED = {"idempotency_key": "k"}
PUBLISHING = {"content-type": "application/json", "idempotency-key": "k"}


async def test_head_is_get_without_the_body(office: Office):
    office.add()
    for method, path in MATRIX:
        if method != "GET":
            continue
        with office.stores.database.transaction() as connection:
            office.stores.registry.set_alias(connection, "credit", "champion", 1, expected=None, by="")
        query = "?from=1&to=1" if path.endswith("diff") else ""
        got, head = await office.ask(method, filled(path) + query), await office.ask("HEAD", filled(path) + query)
        assert head.status_code == got.status_code
        assert head.content == b""
        own = {"x-request-id", "content-length"}
        assert {k: v for k, v in head.headers.items() if k not in own} == {
            k: v for k, v in got.headers.items() if k not in own
        }
        if got.status_code == 200:
            assert head.headers["content-length"] == str(len(got.content))


BAD = (b"{", b"[]", b"null", b'"x"', b"\xef\xbb\xbf{}", b'{"reason": NaN}', b"{} {}", b"\xff", b'{"a":1e999}',
                                  b'{"reason":"a","reason":"b"}', b'{"version":1,"version":1}', b"[" * 200 + b"]" * 200)  # fmt: skip


async def test_b10_a_body_that_is_not_strict_json_of_its_type_is_refused(office: Office):
    for method, path in MATRIX:
        for text in BAD if method in {"PUT", "PATCH", "POST"} and path != "/models/{m}/versions" else ():
            answer = await office.ask(method, filled(path), text)
            assert answer.status_code == 400, (method, path, text)
    assert office.changes == office.reloads == 0


async def test_a_body_that_is_said_to_be_something_else_is_refused(office: Office):
    for method, path in MATRIX:
        if method not in {"PUT", "PATCH", "POST"}:
            continue
        takes_none = path.endswith(("/restore", "/reload"))
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/msgpack",
            "multipart/form-data",
            "",
        ):
            answer = await office.ask(method, filled(path), b"{}", content_type=kind, **KEYED)
            assert answer.status_code in ({200, 404} if takes_none else {415}), kind


async def test_b82_what_a_browser_sends_for_another_site_is_refused(office: Office):
    office.add()
    for method, path in MATRIX:
        foreign = [
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:9000"},
            {"origin": "http://localhost:8002"},
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
            {"host": "evil.example"},
            {"host": "127.0.0.1.evil.example:8002"},
            {"host": ""},
        ]
        for headers in foreign:
            for verb in (method, "OPTIONS"):
                answer = await office.ask(verb, filled(path), **headers)
                assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED"), headers
        assert office.changes == office.reloads == 0


async def test_what_comes_from_this_machine_is_let_in(office: Office):
    for headers in (
        {"origin": "http://127.0.0.1:8002", "sec_fetch_site": "same-origin"},
        {"origin": "http://localhost:8002", "host": "localhost:8002"},
        {"host": "LOCALHOST"},
        {"host": "[::1]:8002"},
        {"sec_fetch_site": "none"},
    ):
        assert (await office.ask("GET", "/status", **headers)).status_code == 200


async def test_a_request_id_is_taken_over_when_it_is_one(office: Office):
    assert (await office.ask("GET", "/status", x_request_id="a.B-1:_")).headers["x-request-id"] == "a.B-1:_"
    for bad in ("", "a b", "x" * 129, "<b>"):
        answer = await office.ask("GET", "/models/nobody", x_request_id=bad)
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_no_answer_is_kept_by_a_cache_or_run_as_a_page(office: Office):
    answer = await office.ask("GET", "/status")
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_the_document_of_the_api_is_whole(office: Office):
    document = (await office.ask("GET", "/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    listed = {(m.upper(), path.removeprefix(ROOT)) for path, one in document["paths"].items() for m in one}
    assert listed == set(MATRIX)
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names)
    text = json.dumps(document)
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert references == set(document["components"]["schemas"])
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    for (method, path), (permission, query) in MATRIX.items():
        operation = document["paths"][ROOT + path][method.lower()]
        assert operation["x-permission"] == permission
        assert {p["name"] for p in operation["parameters"] if p["in"] == "query"} == query
        assert {p["name"] for p in operation["parameters"] if p["in"] == "path"} == set(re.findall(r"\{(\w)\}", path))
        assert ("requestBody" in operation) == (
            method in {"PUT", "PATCH"} or (path.endswith(("versions", "retire", "preview")) and method == "POST")
        )


async def test_answers_are_what_the_document_says(office: Office):
    office.add(count=2)
    with office.stores.database.transaction() as connection:
        office.stores.registry.set_alias(connection, "credit", "champion", 1, expected=None, by="")
    spec = {"name": "credit", "model": "credit", "traffic": {"champion": 100}}
    assert (await office.ask("PUT", "/endpoints/credit", spec)).status_code == 201
    document = (await office.ask("GET", "/openapi.json")).json()
    checked = 0
    for method, path in MATRIX:
        operation = document["paths"][ROOT + path][method.lower()]
        query = "?from=1&to=2" if path.endswith("diff") else ""
        body = BODIES.get((method, path))
        answer = await office.ask(method, filled(path) + query, body)
        described = operation["responses"].get(str(answer.status_code), operation["responses"]["default"])
        kind = answer.headers.get("content-type", "").partition(";")[0]
        schema = described.get("content", {}).get(kind, {}).get("schema")
        if schema is not None and "json" in kind:
            whole = {**schema, "components": document["components"]}
            jsonschema_rs.validator_for(whole).validate(msgspec.json.decode(answer.content))
            checked += 1
    assert checked > 20


BODIES = {
    ("PUT", "/models/{m}/aliases/{a}"): {"version": 2},
    ("PATCH", "/models/{m}"): {"tags": {"a": "b"}},
    ("PATCH", "/models/{m}/versions/{n}"): {"tags": {"a": None}},
    ("POST", "/models/{m}/versions/{n}/retire"): {"reason": "old"},
    ("PUT", "/endpoints/{e}"): {"name": "credit", "model": "credit", "traffic": {"1": 100}},
    ("POST", "/endpoints/{e}/preview"): {"name": "credit", "model": "credit", "traffic": {"1": 100}},
}
