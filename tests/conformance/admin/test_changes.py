"""Changes: what they take, what they answer, on which revision they insist, and that each is made once."""

import asyncio
import threading
from datetime import UTC, datetime

import pytest

from limen.contracts.conditions import Condition, ConditionReason, ConditionStatus, ConditionType
from limen.contracts.endpoint import EndpointStatus, Route
from limen.contracts.errors import Reason, Unavailable
from tests.conformance.admin.office import Office

SPEC = {"name": "credit", "model": "credit", "traffic": {"champion": 100}}


async def champion(office: Office, count: int = 2) -> None:
    """Two versions, of which the first is the champion and served."""
    office.add(count=count)
    assert (await office.ask("PUT", "/models/credit/aliases/champion", {"version": 1})).status_code == 201
    assert (await office.ask("PUT", "/endpoints/credit", SPEC)).status_code == 201
    office.changes = 0


def code_of(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def paths_of(answer) -> list[str]:
    return [error["path"] for error in answer.json()["errors"]]


async def test_201_is_what_was_not_there_and_200_what_was(office: Office):
    office.add(count=2)
    alias = "/models/credit/aliases/champion"
    seen = []
    for version in (1, 1, 2):
        answer = await office.ask("PUT", alias, {"version": version})
        seen.append((answer.status_code, answer.headers["etag"], answer.json()["version"]))
    assert seen == [(201, '"1"', 1), (200, '"1"', 1), (200, '"2"', 2)]
    gone = await office.ask("DELETE", alias)
    assert (gone.status_code, gone.content) == (204, b"")
    again = await office.ask("PUT", alias, {"version": 1})
    assert (again.status_code, again.headers["etag"]) == (201, '"4"')

    seen = []
    for weight in (100, 100, 60):
        spec = SPEC | {"traffic": {"champion": weight} | ({"2": 40} if weight == 60 else {})}
        answer = await office.ask("PUT", "/endpoints/credit", spec)
        seen.append((answer.status_code, answer.headers["etag"]))
    assert seen == [(201, '"1"'), (200, '"1"'), (200, '"2"')]
    assert (await office.ask("DELETE", "/endpoints/credit")).status_code == 204
    again = await office.ask("PUT", "/endpoints/credit", SPEC)
    assert (again.status_code, again.headers["etag"]) == (201, '"4"')


async def test_one_thing_has_its_revision_as_its_entity_tag_and_others_have_none(office: Office):
    await champion(office)
    await office.ask("PATCH", "/models/credit", {"tags": {"a": "b"}})
    for path in ("/models/credit", "/models/credit/versions/1", "/endpoints/credit"):
        answer = await office.ask("GET", path)
        assert answer.headers["etag"] == f'"{answer.json().get("revision", 1)}"'
    for path in ("/status", "/models", "/models/credit/versions/1/contract", "/models/credit/diff?from=1&to=2"):
        assert "etag" not in (await office.ask("GET", path)).headers
    assert "etag" not in (await office.ask("POST", "/endpoints/credit/preview", SPEC)).headers


CHANGES = [
    ("PATCH", "/models/credit", {"tags": {"a": "b"}}),
    ("PATCH", "/models/credit/versions/1", {"tags": {"a": "b"}}),
    ("POST", "/models/credit/versions/2/retire", {"reason": "old"}),
    ("POST", "/models/credit/versions/2/restore", None),
    ("PUT", "/models/credit/aliases/champion", {"version": 2}),
    ("DELETE", "/models/credit/aliases/other", None),
    ("PUT", "/endpoints/credit", SPEC | {"is_paused": True}),
    ("DELETE", "/endpoints/credit", None),
]


async def test_b79_a_change_is_made_only_on_the_revision_that_was_seen(office: Office):
    await champion(office)
    await office.ask("PUT", "/models/credit/aliases/other", {"version": 2})
    await office.ask("PATCH", "/models/credit/versions/2", {"tags": {}})
    await office.ask("PUT", "/models/credit/aliases/other", {"version": 1})
    tags = {
        "/models/credit/versions/2/restore": 3,
        "/models/credit/versions/2/retire": 2,
        "/models/credit/aliases/other": 2,
    }
    for method, path, body in CHANGES:
        for headers in ({"if_match": '"99"'}, {"if_none_match": "*"}):
            answer = await office.ask(method, path, body, **headers)
            assert code_of(answer) == (412, "STALE"), (path, headers)
        for headers in ({"if_match": "1"}, {"if_match": "*"}, {"if_match": 'W/"1"'}, {"if_match": '"1", "2"'}, {"if_match": '"0"'},
                        {"if_match": '""'}, {"if_match": '"-1"'}, {"if_none_match": '"1"'}, {"if_none_match": "*", "if_match": '"1"'}):  # fmt: skip
            answer = await office.ask(method, path, body, **headers)
            assert code_of(answer) == (400, "INVALID_HEADER"), (path, headers)
        seen = tags.get(path, 1)
        if (method, path) == ("DELETE", "/endpoints/credit"):
            seen = 2
        answer = await office.ask(method, path, body, if_match=f'"{seen}"')
        assert answer.status_code in {200, 204}, (path, answer.text)
    new = await office.ask("PUT", "/endpoints/credit", SPEC, if_none_match="*")
    assert new.status_code == 201


async def test_b79_of_two_changes_on_one_revision_one_wins(office: Office):
    await champion(office, count=9)
    answers = await asyncio.gather(
        *(
            office.ask("PUT", "/models/credit/aliases/champion", {"version": version}, if_match='"1"')
            for version in range(2, 10)
        )
    )
    assert sorted(a.status_code for a in answers) == [200] + [412] * 7
    [winner] = [a for a in answers if a.status_code == 200]
    assert (await office.ask("GET", "/models/credit")).json()["aliases"] == {"champion": winner.json()["version"]}


async def test_b88_the_same_key_and_request_is_answered_as_the_first_time(office: Office):
    await champion(office)
    await office.ask("PUT", "/models/credit/aliases/other", {"version": 1})
    for method, path, body in CHANGES:
        key = f"key of {method} {path}"
        first = await office.ask(method, path, body, idempotency_key=key)
        assert "idempotency-replayed" not in first.headers
        changes, revision = office.changes, office.stores.registry.revision()
        again = await office.ask(method, path, body, idempotency_key=key)
        assert (again.status_code, again.content) == (first.status_code, first.content), path
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers.get("etag") == first.headers.get("etag")
        assert office.changes == changes
        assert office.stores.registry.revision() >= revision


async def test_b88_a_key_is_of_one_request(office: Office):
    await champion(office)
    alias = "/models/credit/aliases/other"
    assert (await office.ask("PUT", alias, {"version": 1}, idempotency_key="k")).status_code == 201
    for method, path, body in (
        ("PUT", alias, {"version": 2}),
        ("PUT", "/models/credit/aliases/another", {"version": 1}),
        ("DELETE", alias, None),
    ):
        answer = await office.ask(method, path, body, idempotency_key="k")
        assert code_of(answer) == (422, "KEY_REUSED")
    assert (await office.ask("GET", "/models/credit")).json()["aliases"] == {"champion": 1, "other": 1}


async def test_b88_a_key_that_is_none_is_refused(office: Office):
    await champion(office)
    for key in ("", "x" * 256, "caf\xe9", "a\tb"):
        answer = await office.http.put(
            "/api/v1/models/credit/aliases/other",
            json={"version": 1},
            headers={b"idempotency-key": key.encode("latin-1")},
        )
        office.check(answer)
        assert code_of(answer) == (400, "IDEMPOTENCY"), key
    answer = await office.ask("PUT", "/models/credit/aliases/other", {"version": 1}, idempotency_key="x" * 255)
    assert answer.status_code == 201


async def test_b88_while_a_request_is_worked_on_its_key_waits(office: Office, monkeypatch: pytest.MonkeyPatch):
    await champion(office)
    inside, goes_on = threading.Event(), threading.Event()
    set_tags = office.stores.registry.set_tags

    def slow(*arguments, **options):
        inside.set()
        goes_on.wait(60)
        return set_tags(*arguments, **options)

    monkeypatch.setattr(office.stores.registry, "set_tags", slow)
    change = ("PATCH", "/models/credit", {"tags": {"a": "b"}})
    with office.stores.database.transaction() as connection:
        office.stores.idempotency.begin(connection, "local", "k", "PATCH /api/v1/models/credit", digest_of(change[2]))
    answer = await office.ask(*change, idempotency_key="k")
    assert code_of(answer) == (409, "IDEMPOTENCY")
    assert int(answer.headers["retry-after"]) >= 1
    first = asyncio.create_task(office.ask(*change, idempotency_key="other"))
    await asyncio.to_thread(inside.wait, 60)
    goes_on.set()
    assert (await first).status_code == 200


def digest_of(body: object) -> str:
    import hashlib
    import json

    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


async def test_b88_after_an_error_the_same_key_tries_again(office: Office, monkeypatch: pytest.MonkeyPatch):
    await champion(office)
    path, body = "/models/credit/aliases/other", {"version": 9}
    assert (await office.ask("PUT", path, body, idempotency_key="k")).status_code == 404
    office.add(count=7)
    assert (await office.ask("PUT", path, body, idempotency_key="k")).status_code == 201

    def full(*_, **__):
        raise Unavailable("the registry's database is full", reason=Reason.STORAGE_FULL, retry_after_s=1)

    body = {"version": 1}
    with monkeypatch.context() as patched:
        patched.setattr(office.stores.registry, "set_alias", full)
        answer = await office.ask("PUT", path, body, idempotency_key="l")
        assert code_of(answer) == (507, "STORAGE_FULL")
        assert answer.headers["retry-after"] == "1"
    assert (await office.ask("PUT", path, body, idempotency_key="l")).status_code == 200


async def test_b76_what_only_the_server_sets_is_read_only_and_what_nobody_knows_is_unknown(office: Office):
    await champion(office)
    own = {"tenant": "x", "roles": [], "sha256": "x", "created_by": "x"}
    for method, path, body in [change for change in CHANGES if change[2] is not None]:
        for key, value in own.items():
            answer = await office.ask(method, path, body | {key: value})
            assert code_of(answer) == (400, "READ_ONLY"), (path, key)
            assert paths_of(answer) == [key]
        answer = await office.ask(method, path, body | {"<img>": 1, "colour": 2})
        assert code_of(answer) == (400, "UNKNOWN_FIELD")
        assert paths_of(answer) == ["?", "colour"]
        assert "img" not in answer.text
    for path, more in {
        "status": {"status": {"is_ready": True}},
        "revision": {"revision": 7},
        "updated_by": {"updated_by": "x"},
        "serving.replicas.status": {"serving": {"replicas": {"status": 1}}},
    }.items():
        answer = await office.ask("PUT", "/endpoints/credit", SPEC | more)
        assert (*code_of(answer), *paths_of(answer)) == (400, "READ_ONLY", path)
    answer = await office.ask(
        "PUT", "/endpoints/credit", SPEC | {"serving": {"replicas": {"many": 1}}, "slo": {"p99_ms": 1}}
    )
    assert (code_of(answer), paths_of(answer)) == ((400, "UNKNOWN_FIELD"), ["serving.replicas.many", "slo.p99_ms"])
    assert office.changes == 0


@pytest.mark.parametrize("traffic", [{"1": 99}, {"1": 101}, {"1": -1, "2": 101}, {"1": 10**9}, {"1": 10**30}, {"1": 50.5, "2": 49.5}, {"1": "100"},
                                     {"1": True}, {"1": None}, {}, {"0": 100}, {"-1": 100}, {"<b>": 100}, {"latest": 100}, {"1": 1e2},
                                     {str(i): 5 for i in range(1, 21)}, "champion", ["1"], None])  # fmt: skip
async def test_b77_weights_that_are_none_are_refused_with_their_path_and_without_their_value(
    office: Office, traffic: object
):
    await champion(office)
    answer = await office.ask("PUT", "/endpoints/credit", SPEC | {"traffic": traffic})
    assert answer.status_code == 400
    assert all(path.startswith("traffic") for path in paths_of(answer))
    for value in ("99", "-1", "1000000000", "50.5", "<b>", "b>"):
        assert value not in answer.json()["detail"]
    assert office.changes == 0


async def test_b77_nan_is_no_weight(office: Office):
    await champion(office)
    text = b'{"name":"credit","model":"credit","traffic":{"1":NaN}}'
    assert code_of(await office.ask("PUT", "/endpoints/credit", text)) == (400, "BAD_JSON")


async def test_no_error_says_what_the_caller_sent(office: Office):
    await champion(office)
    for more in ({"placement": "XYZZY"}, {"serving": {"replicas": {"mode": "XYZZY"}}}, {"model": "XYZZY"}, {"ready": ["XYZZY"]},
                 {"name": "XYZZY"}, {"slo": {"p95_ms": "XYZZY"}}, {"slo": {"p95_ms": 424242, "deadline_ms": 1}}, {"major": 424242}):  # fmt: skip
        answer = await office.ask("PUT", "/endpoints/credit", SPEC | more)
        assert 400 <= answer.status_code < 500, more
        assert "XYZZY" not in answer.text
        if "slo" in more:
            assert "424242" not in answer.text


async def test_b78_what_cannot_be_served_is_not_named(office: Office):
    await champion(office, count=3)
    assert code_of(await office.ask("PUT", "/models/credit/aliases/champion", {"version": 9})) == (404, "NOT_FOUND")
    assert code_of(await office.ask("PUT", "/models/nobody/aliases/champion", {"version": 1})) == (404, "NOT_FOUND")
    assert (await office.ask("POST", "/models/credit/versions/3/retire", {"reason": "bad"})).status_code == 200
    assert code_of(await office.ask("PUT", "/models/credit/aliases/champion", {"version": 3})) == (409, "RETIRED")
    answer = await office.ask("PUT", "/endpoints/credit", SPEC | {"traffic": {"3": 100}})
    assert (code_of(answer), paths_of(answer)) == ((409, "RETIRED"), ["traffic.3"])
    answer = await office.ask("PUT", "/endpoints/credit", SPEC | {"ready": ["nobody"]})
    assert (code_of(answer), paths_of(answer)) == ((404, "NOT_FOUND"), ["ready[0]"])
    for version in (0, -1, 10**9 + 1, 10**30, "1", 1.5, None, True):
        answer = await office.ask("PUT", "/models/credit/aliases/champion", {"version": version})
        assert answer.status_code == 400, version
    assert (await office.ask("GET", "/models/credit")).json()["aliases"] == {"champion": 1}


async def test_what_is_needed_is_not_taken_away(office: Office):
    await champion(office)
    assert code_of(await office.ask("DELETE", "/models/credit/aliases/champion")) == (409, "IN_USE")
    assert code_of(await office.ask("POST", "/models/credit/versions/1/retire", {"reason": ""})) == (409, "IN_USE")


async def test_an_alias_goes_only_where_the_endpoints_that_follow_it_may_go_and_back_always(office: Office):
    await champion(office, count=1)
    assert office.add(minimum=1) == 2
    answer = await office.ask("PUT", "/models/credit/aliases/champion", {"version": 2})
    assert (code_of(answer), paths_of(answer)) == ((409, "INCOMPATIBLE"), ["inputs.amount.minimum"])
    assert office.add() == 3
    assert (await office.ask("PUT", "/models/credit/aliases/champion", {"version": 3})).status_code == 200
    assert (await office.ask("PUT", "/models/credit/aliases/champion", {"version": 2})).status_code == 200
    assert office.add(major=2) == 4
    assert code_of(await office.ask("PUT", "/models/credit/aliases/champion", {"version": 4})) == (409, "INCOMPATIBLE")


async def test_the_name_of_the_path_is_the_name_in_the_body(office: Office):
    await champion(office)
    for method, path in (("PUT", "/endpoints/other"), ("POST", "/endpoints/other/preview")):
        answer = await office.ask(method, path, SPEC)
        assert (code_of(answer), paths_of(answer)) == ((400, "INVALID_NAME"), ["name"])


async def test_names_that_are_none_are_refused_wherever_they_stand(office: Office):
    await champion(office)
    bad = ["UPPER", "a%20b", "%00", "caf%C3%A9", "a%0Ab", "-x", "x" * 64, "a..b", "%3Cb%3E"]
    for name in bad:
        for method, path, body in [
            ("GET", f"/models/{name}", None),
            ("PATCH", f"/models/{name}", {"tags": {}}),
            ("GET", f"/models/{name}/versions", None),
            ("GET", f"/models/{name}/versions/1", None),
            ("GET", f"/models/credit/versions/{name}", None),
            ("GET", f"/models/credit/versions/{name}/contract", None),
            ("PATCH", f"/models/credit/versions/{name}", {"tags": {}}),
            ("PUT", f"/models/credit/aliases/{name}", {"version": 1}),
            ("DELETE", f"/models/credit/aliases/{name}", None),
            ("GET", f"/endpoints/{name}", None),
            ("DELETE", f"/endpoints/{name}", None),
            ("GET", f"/endpoints/{name}/history", None),
        ]:
            answer = await office.ask(method, path, body)
            assert code_of(answer) in {(400, "INVALID_NAME"), (400, "INVALID_VERSION")}, path
            assert "<b>" not in answer.text
    for number in ("0", "01", "-1", "1.0", "latest", "1" * 19, "champion"):
        answer = await office.ask("POST", f"/models/credit/versions/{number}/retire", {"reason": ""})
        assert code_of(answer) == (400, "INVALID_VERSION")
    for number in ("9", "9" * 18):
        assert code_of(await office.ask("GET", f"/models/credit/versions/{number}")) == (404, "NOT_FOUND")
    for query in ("", "from=1", "to=1", "from=&to=1", "from=1&to=UPPER", "from=1&to=%00"):
        answer = await office.ask("GET", f"/models/credit/diff?{query}")
        assert code_of(answer) == (400, "INVALID_PARAMETER"), query


async def test_free_text_is_a_short_line(office: Office):
    await champion(office)
    for reason in ("a\nb", "\x00", "x" * 1001, "\u202e"):
        answer = await office.ask("POST", "/models/credit/versions/2/retire", {"reason": reason})
        assert (code_of(answer), paths_of(answer)) == ((400, "INVALID_FIELD"), ["reason"])
    for tags in ({"a": "\x00"}, {"": "x"}, {"<b>": "x"}, {"a": "x" * 257}, {"a": 1}, {f"k{i}": "x" for i in range(65)}):
        answer = await office.ask("PATCH", "/models/credit", {"tags": tags})
        assert answer.status_code == 400, tags
        assert "<b>" not in answer.text
    html = "<script>alert(1)</script>"
    answer = await office.ask("POST", "/models/credit/versions/2/retire", {"reason": html})
    assert answer.json()["retired_reason"] == html
    assert answer.headers["content-type"] == "application/json"


async def test_retiring_and_restoring_are_undone_by_each_other(office: Office):
    await champion(office)
    retired = await office.ask("POST", "/models/credit/versions/2/retire", {"reason": "too old"})
    assert (retired.json()["is_retired"], retired.json()["retired_reason"]) == (True, "too old")
    restored = await office.ask("POST", "/models/credit/versions/2/restore")
    assert ("is_retired" in restored.json(), restored.headers["etag"]) == (False, '"3"')
    answer = await office.ask("POST", "/models/credit/versions/2/restore", {"reason": "x"})
    assert code_of(answer) == (400, "UNKNOWN_FIELD")


async def test_tags_are_set_and_removed_and_others_stay(office: Office):
    await champion(office)
    await office.ask("PATCH", "/models/credit", {"tags": {"a": "1", "b": "2"}})
    answer = await office.ask("PATCH", "/models/credit", {"tags": {"a": None, "c": "3", "nobody": None}})
    assert answer.json()["tags"] == {"b": "2", "c": "3"}


async def test_a_preview_changes_nothing_and_says_what_applying_would_do(office: Office):
    await champion(office)
    spec = SPEC | {"traffic": {"champion": 90, "2": 10}}
    revision = office.stores.registry.revision()
    preview = (await office.ask("POST", "/endpoints/credit/preview", spec)).json()
    assert (preview["is_new"], preview["revision"]) == (False, 1)
    assert [change["path"] for change in preview["changes"]] == ["traffic.champion", "traffic['2']"]
    new = (await office.ask("POST", "/endpoints/other/preview", spec | {"name": "other"})).json()
    assert (new["is_new"], new["revision"]) == (True, 0)
    assert office.stores.registry.revision() == revision
    assert code_of(await office.ask("POST", "/endpoints/credit/preview", SPEC | {"traffic": {"9": 100}})) == (
        404,
        "NOT_FOUND",
    )


async def test_history_is_there_after_the_endpoint_is_gone(office: Office):
    await champion(office)
    await office.ask("DELETE", "/endpoints/credit")
    assert code_of(await office.ask("GET", "/endpoints/credit")) == (404, "NOT_FOUND")
    found = (await office.ask("GET", "/endpoints/credit/history")).json()["items"]
    assert [(e["revision"], e["spec"] is None) for e in found] == [(2, True), (1, False)]


async def test_a_status_is_what_the_server_sees(office: Office):
    await champion(office)
    office.statuses = {"credit": EndpointStatus(observed_revision=1, is_ready=True, routes=(Route(1, 100),))}
    status = (await office.ask("GET", "/endpoints/credit")).json()["status"]
    assert status == {"observed_revision": 1, "is_ready": True, "routes": [{"version": 1, "weight": 100}]}
    away = "the registry cannot be reached"
    since = datetime(2026, 1, 1, tzinfo=UTC)
    office.conditions = (
        Condition(ConditionType.READY, ConditionStatus.TRUE, ConditionReason.ANSWERS, "every endpoint answers", since),
        Condition(ConditionType.STALE, ConditionStatus.TRUE, ConditionReason.REGISTRY_UNAVAILABLE, away, since),
    )
    found = (await office.ask("POST", "/reload")).json()
    assert (found["models"], found["endpoints"], found["is_ready"], found["problem"]) == (1, 1, True, away)
    assert found["conditions"][1] == {
        "type": "Stale",
        "status": "True",
        "reason": "RegistryUnavailable",
        "message": away,
        "since": "2026-01-01T00:00:00Z",
    }
    assert (found["server"], office.reloads) == ({"workers": 2}, 1)


async def test_a_change_that_takes_too_long_is_not_made(office: Office, monkeypatch: pytest.MonkeyPatch):
    await champion(office)
    alias = "/models/credit/aliases/champion"
    for bad in ("", "0", "-1", "1.5", "1e3", "x"):
        assert code_of(await office.ask("PUT", alias, {"version": 2}, x_request_timeout_ms=bad)) == (
            400,
            "INVALID_HEADER",
        )
    set_alias = office.stores.registry.set_alias
    goes_on = threading.Event()

    def slow(*arguments, **options):
        goes_on.wait(0.05)
        return set_alias(*arguments, **options)

    monkeypatch.setattr(office.stores.registry, "set_alias", slow)
    answer = await office.ask("PUT", alias, {"version": 2}, x_request_timeout_ms="1")
    assert code_of(answer) == (504, "DEADLINE_EXCEEDED")
    assert (await office.ask("GET", "/models/credit")).json()["aliases"] == {"champion": 1}
    assert (await office.ask("PUT", alias, {"version": 2}, x_request_timeout_ms="60000")).status_code == 200


async def test_f15_a_registry_that_cannot_be_reached_is_503_and_comes_back(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    await champion(office)

    def away():
        raise Unavailable("the registry's database is temporarily unavailable", reason=Reason.STORAGE, retry_after_s=1)

    with monkeypatch.context() as patched:
        patched.setattr(office.stores.database, "transaction", away)
        patched.setattr(office.stores.database, "reading", away)
        for method, path, body in [*CHANGES, ("GET", "/models", None), ("GET", "/status", None)]:
            answer = await office.ask(method, path, body, idempotency_key="k")
            assert code_of(answer) == (503, "STORAGE")
            assert answer.headers["retry-after"] == "1"
    assert (await office.ask("GET", "/models")).status_code == 200
    assert office.changes == 0


async def test_an_unexpected_fault_tells_nothing_of_its_inside(office: Office, monkeypatch: pytest.MonkeyPatch, caplog):
    await champion(office)

    def broken(*_, **__):
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr(office.stores.registry, "set_alias", broken)
    monkeypatch.setattr(office.stores.registry, "models", broken)
    for method, path, body in (("PUT", "/models/credit/aliases/champion", {"version": 2}), ("GET", "/models", None)):
        answer = await office.ask(method, path, body)
        assert code_of(answer) == (500, "INTERNAL")
        assert "secret" not in answer.text
    assert "secret" in caplog.text


async def test_a_body_that_is_too_long_is_413(office: Office):
    await champion(office)
    long = b'{"reason": "' + b"x" * (4 << 20) + b'"}'
    assert code_of(await office.ask("POST", "/models/credit/versions/2/retire", long)) == (413, "BODY_TOO_LARGE")

    async def in_parts():
        for _ in range(5):
            yield b"x" * (1 << 20)

    answer = await office.http.post(
        "/api/v1/models/credit/versions/2/retire", content=in_parts(), headers={"content-type": "application/json"}
    )
    assert code_of(answer) == (413, "BODY_TOO_LARGE")
