"""Lists: pages, filters, and everything that is no page of this list."""

import base64
import json

import pytest

from limen.contracts.catalogue import Evidence, EvidenceKind, Verdict
from limen.management.stores import utc_now
from tests.conformance.admin.office import Office


def evidence(office: Office, count: int, kind: EvidenceKind = EvidenceKind.SCAN) -> None:
    with office.stores.database.transaction() as connection:
        for _ in range(count):
            found = Evidence(model="m1", version=1, kind=kind, verdict=Verdict.PASS, created_at=utc_now())
            office.stores.registry.add_evidence(connection, found)


def aliases(office: Office, *names: str) -> None:
    with office.stores.database.transaction() as connection:
        for name in names:
            office.stores.registry.set_alias(connection, "m1", name, 1, expected=None, by="")


async def filled(office: Office) -> None:
    """Five of everything that can be listed."""
    for number in range(1, 6):
        office.add(f"m{number}")
    office.add("m1", 4)
    evidence(office, 5)
    aliases(office, "a1", "a2", "a3", "a4", "a5")
    for number in range(1, 6):
        spec = {"name": f"e{number}", "model": "m1", "traffic": {"1": 100}}
        assert (await office.ask("PUT", f"/endpoints/e{number}", spec)).status_code == 201
    for number in range(2, 6):
        spec = {"name": "e1", "model": "m1", "traffic": {str(number): 100}}
        assert (await office.ask("PUT", "/endpoints/e1", spec)).status_code == 200


LISTS = {
    "/models": ("name", ["m1", "m2", "m3", "m4", "m5"]),
    "/models/m1/versions": ("number", [5, 4, 3, 2, 1]),
    "/models/m1/versions/1/evidence": ("kind", ["scan"] * 5),
    "/models/m1/aliases": ("alias", ["a1", "a2", "a3", "a4", "a5"]),
    "/endpoints": ("spec", ["e1", "e2", "e3", "e4", "e5"]),
    "/endpoints/e1/history": ("revision", [5, 4, 3, 2, 1]),
}


def shown(path: str, items: list[dict]) -> list[object]:
    key = LISTS[path][0]
    return [item[key]["name"] if key == "spec" else item[key] for item in items]


async def test_every_list_comes_in_pages_that_together_are_the_list(office: Office):
    await filled(office)
    for path, (_, whole) in LISTS.items():
        for limit in (1, 2, 3, 4, 5, 6, 500):
            found, cursor, pages = [], "", 0
            while True:
                answer = await office.ask(
                    "GET", f"{path}?limit={limit}&cursor={cursor}" if cursor else f"{path}?limit={limit}"
                )
                page = answer.json()
                assert answer.status_code == 200
                assert len(page["items"]) <= limit
                found += shown(path, page["items"])
                cursor, pages = page["next"], pages + 1
                if not cursor:
                    break
            assert found == whole, (path, limit)
            assert pages == -(-5 // limit)


async def test_b83_a_limit_or_cursor_that_is_none_is_refused(office: Office):
    await filled(office)
    others = (await office.ask("GET", "/models?limit=1")).json()["next"]
    for path in LISTS:
        own = f"/api/v1{path}"
        bad = [
            "limit=0",
            "limit=501",
            "limit=1000000000",
            "limit=-1",
            "limit=1.5",
            "limit=",
            "limit=a",
            "limit=1&limit=2",
            "limit=%D9%A1",
        ]
        bad += ["cursor=", "cursor=-1", "cursor=%00", "cursor=" + "A" * 9999, "sort=name;drop", "offset=2"]
        for made_up in (
            [own, ""],
            [own, "<b>"],
            [own, "\x00"],
            [own, "0"],
            [own, -1],
            [own, "9" * 30],
            ["/x", "1"],
            [own],
            {},
            "x",
        ):
            bad.append("cursor=" + base64.urlsafe_b64encode(json.dumps(made_up).encode()).decode().rstrip("="))
        if path != "/models":
            bad.append(f"cursor={others}")
        for query in bad:
            answer = await office.ask("GET", f"{path}?{query}")
            if "OVBN" in query or answer.status_code == 200:
                # A name may be a number too; such a cursor begins after it.
                assert path in {"/models", "/models/m1/aliases", "/endpoints"}, query
                continue
            assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER"), query


async def test_tags_narrow_a_list_and_all_of_them_count(office: Office):
    for name in ("m1", "m2"):
        office.add(name, 2)
    await office.ask("PATCH", "/models/m1", {"tags": {"team": "risk", "note": "a=b"}})
    await office.ask("PATCH", "/models/m2", {"tags": {"team": "risk"}})
    await office.ask("PATCH", "/models/m1/versions/2", {"tags": {"stage": "test"}})

    async def names(query: str, path: str = "/models", key: str = "name") -> list[object]:
        return [item[key] for item in (await office.ask("GET", f"{path}?{query}")).json()["items"]]

    assert await names("tag=team=risk") == ["m1", "m2"]
    assert await names("tag=team=risk&tag=note=a%3Db") == ["m1"]
    assert await names("tag=team=other") == []
    assert await names("tag=stage=test", "/models/m1/versions", "number") == [2]
    for bad in (
        "tag=team",
        "tag==x",
        "tag=",
        "tag=a=1&tag=a=2",
        "tag=a=%00",
        "&".join(f"tag=k{i}=1" for i in range(17)),
    ):
        answer = await office.ask("GET", f"/models?{bad}")
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER"), bad
    many = "&".join(f"tag=k{i}=1" for i in range(4_000))
    assert (await office.ask("GET", f"/models?{many}")).status_code == 400
    assert (await office.ask("GET", "/models?" + "&".join(f"tag=k{i}=1" for i in range(16)))).status_code == 200


async def test_retired_versions_are_listed_when_they_are_asked_for(office: Office):
    office.add("m1", 2)
    await office.ask("POST", "/models/m1/versions/1/retire", {"reason": "old"})

    async def numbers(query: str = "") -> list[int]:
        return [v["number"] for v in (await office.ask("GET", f"/models/m1/versions{query}")).json()["items"]]

    assert await numbers() == await numbers("?retired=false") == [2]
    assert await numbers("?retired=true") == [2, 1]
    for bad in ("", "1", "True", "yes"):
        assert (await office.ask("GET", f"/models/m1/versions?retired={bad}")).status_code == 400


async def test_evidence_is_narrowed_to_a_kind(office: Office):
    office.add("m1")
    evidence(office, 2)
    evidence(office, 1, EvidenceKind.GOLDEN)
    aliases(office, "champion")
    found = (await office.ask("GET", "/models/m1/versions/champion/evidence?kind=golden")).json()["items"]
    assert [e["kind"] for e in found] == ["golden"]
    answer = await office.ask("GET", "/models/m1/versions/1/evidence?kind=<b>")
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER")
    assert "<b>" not in answer.text


@pytest.mark.parametrize("path", ["/models/nobody/versions", "/models/nobody/aliases", "/models/nobody/versions/1/evidence",
                                  "/endpoints/nobody/history", "/models/nobody/diff?from=1&to=2"])  # fmt: skip
async def test_the_list_of_what_does_not_exist_is_not_found(office: Office, path: str):
    answer = await office.ask("GET", path)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
