"""What a registry wants of a server, worked out and kept."""

import pytest

from limen.contracts.endpoint import Route
from limen.contracts.errors import Unavailable
from limen.serving.fleet.records import Aim
from limen.serving.sources import planning
from limen.storage.faults import unavailable
from tests.services.shelf import Shelf, spec


def test_a_plan_has_every_endpoint_with_what_is_needed_to_load_it(shelf: Shelf):
    first, second = shelf.add(), shelf.add(signer="f" * 64, needs_trust=True)
    shelf.point("champion", second)
    shelf.apply(spec(ready=("1",)))
    plan = planning.plan_of(shelf.stores)
    [planned] = plan.endpoints
    assert plan.revision == shelf.stores.registry.revision()
    assert planned.aim == Aim((Route(2, 100),), {"champion": "2"}, ("1", "2"))
    assert {n: v.digest for n, v in planned.versions.items()} == {"1": first.digest, "2": second.digest}
    assert (planned.versions["2"].signer, planned.versions["2"].needs_trust) == ("f" * 64, True)
    assert planned.versions["2"].inputs == {"amount": 1}
    assert planned.problem == ""


def test_a_paused_endpoint_needs_nothing(shelf: Shelf):
    shelf.point("champion", shelf.add())
    shelf.apply(spec(is_paused=True))
    [planned] = planning.plan_of(shelf.stores).endpoints
    assert (planned.aim, planned.versions, planned.problem) == (Aim(), {}, "")


def test_an_endpoint_that_cannot_be_followed_says_why_and_the_others_go_on(shelf: Shelf):
    shelf.point("champion", shelf.add())
    shelf.apply(spec())
    shelf.apply(spec(name="other", traffic={"1": 100}))
    with shelf.stores.database.transaction() as connection:
        shelf.stores.registry.remove_alias(connection, "credit", "champion", expected=None)
    bad, good = planning.plan_of(shelf.stores).endpoints
    assert "has no such version or alias" in bad.problem
    assert (good.problem, good.aim.versions) == ("", ("1",))


def test_f16_a_registry_that_goes_away_meanwhile_gives_no_plan_at_all(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    shelf.point("champion", shelf.add())
    shelf.apply(spec())

    def away(*_: object) -> None:
        raise unavailable("the registry's database is temporarily unavailable")

    monkeypatch.setattr(shelf.stores.registry, "resolve", away)
    with pytest.raises(Unavailable):
        planning.plan_of(shelf.stores)
