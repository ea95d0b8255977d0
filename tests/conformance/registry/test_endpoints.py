"""Endpoints in the database: one spec that holds, and everything that ever held."""

import msgspec
import pytest

from limen.contracts.contract import Slo
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import Internal, NotFound, Stale
from limen.contracts.serving import Replicas, Serving
from limen.registry.registry import Registry
from limen.storage import schema
from limen.storage.database import Database
from limen.testing.clock import START, FakeClock
from limen.traffic.endpoint_store import EndpointStore, StoredEndpoint

SPEC = EndpointSpec(
    name="credit",
    model="credit",
    traffic={"champion": 90, "7": 10},
    ready=("3",),
    serving=Serving(replicas=Replicas(max=4)),
    slo=Slo(p95_ms=20.0),
)


def apply(
    database: Database, endpoints: EndpointStore, spec: EndpointSpec = SPEC, expected: int | None = None
) -> StoredEndpoint:
    with database.transaction() as connection:
        return endpoints.apply(connection, spec, expected=expected, by="ada")


def remove(database: Database, endpoints: EndpointStore, expected: int | None = None) -> None:
    with database.transaction() as connection:
        endpoints.remove(connection, "credit", expected=expected, by="eve")


def paused(spec: EndpointSpec = SPEC) -> EndpointSpec:
    return msgspec.structs.replace(spec, is_paused=True)


def test_a_spec_is_kept_as_it_was_applied(database: Database, endpoints: EndpointStore):
    made = apply(database, endpoints, expected=0)
    assert made == StoredEndpoint(spec=SPEC, revision=1, created_at=START, updated_at=START, updated_by="ada")
    assert endpoints.get("credit") == made
    assert endpoints.list() == [made]


def test_a_changed_spec_is_a_new_revision_and_the_same_one_is_not(
    database: Database, endpoints: EndpointStore, clock: FakeClock, registry: Registry
):
    made = apply(database, endpoints)
    clock.advance(60)
    assert apply(database, endpoints) == made
    before = registry.revision()
    changed = apply(database, endpoints, paused(), expected=1)
    assert registry.revision() > before
    assert (changed.revision, changed.created_at, changed.spec.is_paused) == (2, START, True)
    assert changed.updated_at > START
    assert endpoints.get("credit") == changed


@pytest.mark.parametrize("expected", [0, 2])
def test_b79_a_spec_that_has_changed_meanwhile_is_not_overwritten(
    database: Database, endpoints: EndpointStore, expected: int
):
    made = apply(database, endpoints)
    with pytest.raises(Stale):
        apply(database, endpoints, paused(), expected=expected)
    with pytest.raises(Stale):
        remove(database, endpoints, expected=expected)
    assert endpoints.get("credit") == made
    with pytest.raises(Stale):
        apply(database, endpoints, msgspec.structs.replace(SPEC, name="other"), expected=1)


def test_history_outlives_the_endpoint(database: Database, endpoints: EndpointStore, clock: FakeClock):
    apply(database, endpoints)
    apply(database, endpoints, paused())
    clock.advance(60)
    remove(database, endpoints, expected=2)
    with pytest.raises(NotFound):
        endpoints.get("credit")
    assert endpoints.list() == []
    again = apply(database, endpoints, expected=0)
    assert again.revision == 4
    assert again.created_at > START
    found = endpoints.history("credit")
    assert [(change.revision, change.spec, change.changed_by) for change in found] == [
        (4, SPEC, "ada"),
        (3, None, "eve"),
        (2, paused(), "ada"),
        (1, SPEC, "ada"),
    ]
    assert [change.revision for change in endpoints.history("credit", before=4, limit=2)] == [3, 2]
    assert endpoints.history("credit", before=1) == []


def test_an_endpoint_that_is_not_there_is_not_found(database: Database, endpoints: EndpointStore):
    with pytest.raises(NotFound):
        endpoints.get("credit")
    with pytest.raises(NotFound):
        endpoints.history("credit")
    with pytest.raises(NotFound):
        remove(database, endpoints)


def test_endpoints_are_listed_by_name_in_pages(database: Database, endpoints: EndpointStore):
    for name in ("c", "a.v2", "a", "b-1"):
        apply(database, endpoints, msgspec.structs.replace(SPEC, name=name))
    assert [found.spec.name for found in endpoints.list()] == ["a", "a.v2", "b-1", "c"]
    assert [found.spec.name for found in endpoints.list(after="a", limit=2)] == ["a.v2", "b-1"]


def test_the_database_itself_refuses_to_change_history(database: Database, endpoints: EndpointStore):
    apply(database, endpoints)
    table = schema.endpoint_revisions
    for change in (table.update().values(changed_by="mallory"), table.delete()):
        with pytest.raises(Internal), database.transaction() as connection:
            connection.execute(change)
    assert [change.changed_by for change in endpoints.history("credit")] == ["ada"]
