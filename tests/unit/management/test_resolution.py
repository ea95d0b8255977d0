"""What a spec comes to in a registry, and what may follow what."""

import pytest

from limen.contracts.endpoint import Route
from limen.contracts.errors import Incompatible, NotAllowedNow, NotFound, Reason
from limen.management.resolution import ensure_compatible, resolve
from tests.services.shelf import Shelf, spec


def test_numbers_and_aliases_come_to_versions_with_their_shares(shelf: Shelf):
    first, second, third = shelf.add(), shelf.add(), shelf.add()
    shelf.point("champion", second)
    shelf.point("spare", third)
    found = resolve(shelf.stores.registry, spec(traffic={"1": 10, "champion": 90}, ready=("spare", "2")))
    assert found.routes == (Route(1, 10), Route(2, 90))
    assert found.aliases == {"champion": 2, "spare": 3}
    assert set(found.versions) == {first.number, second.number, third.number}
    assert found.newest.number == 2


def test_b77_weights_of_one_version_under_two_names_are_one_share(shelf: Shelf):
    version = shelf.add()
    shelf.point("champion", version)
    shelf.point("challenger", version)
    found = resolve(shelf.stores.registry, spec(traffic={"champion": 60, "challenger": 30, "1": 10}))
    assert found.routes == (Route(1, 100),)
    assert found.aliases == {"champion": 1, "challenger": 1}


def test_a_version_without_a_share_is_loaded_and_gets_no_requests(shelf: Shelf):
    shelf.add()
    shelf.add()
    found = resolve(shelf.stores.registry, spec(traffic={"1": 100, "2": 0}))
    assert found.routes == (Route(1, 100),)
    assert set(found.versions) == {1, 2}


def test_shares_that_are_equal_come_in_the_order_of_versions(shelf: Shelf):
    shelf.add()
    shelf.add()
    assert resolve(shelf.stores.registry, spec(traffic={"2": 50, "1": 50})).routes == (Route(1, 50), Route(2, 50))


def test_an_alias_that_is_about_to_move_counts_as_moved(shelf: Shelf):
    first, second = shelf.add(), shelf.add()
    shelf.point("champion", first)
    found = resolve(shelf.stores.registry, spec(ready=("1",)), {"champion": second})
    assert found.routes == (Route(2, 100),)
    assert found.aliases == {"champion": 2}
    assert set(found.versions) == {1, 2}


@pytest.mark.parametrize(("more", "path"), [
    ({"traffic": {"nobody": 100}}, "traffic.nobody"),
    ({"traffic": {"9": 100}}, "traffic.9"),
    ({"traffic": {"1": 100}, "ready": ("1", "nobody")}, "ready[1]"),
])  # fmt: skip
def test_b78_what_does_not_exist_is_told_with_its_path(shelf: Shelf, more: dict[str, object], path: str):
    shelf.add()
    with pytest.raises(NotFound) as refused:
        resolve(shelf.stores.registry, spec(**more))
    assert [v.path for v in refused.value.violations] == [path]


def test_b78_a_retired_version_and_another_major_are_refused(shelf: Shelf):
    shelf.add()
    shelf.retire(shelf.add())
    shelf.add(major=2)
    with pytest.raises(NotAllowedNow) as retired:
        resolve(shelf.stores.registry, spec(traffic={"2": 100}))
    assert retired.value.reason is Reason.RETIRED
    with pytest.raises(Incompatible) as other:
        resolve(shelf.stores.registry, spec(traffic={"1": 100}, ready=("3",)))
    assert [v.path for v in other.value.violations] == ["ready[0]"]
    assert resolve(shelf.stores.registry, spec(major=2, traffic={"3": 100})).newest.number == 3


def test_a_newer_version_may_follow_when_it_breaks_nobody_and_an_older_one_always(shelf: Shelf):
    shelf.add(minimum=0)
    shelf.add(minimum=5)
    shelf.add(minimum=3)

    def may_follow(before: str, after: str, **more: object) -> bool:
        old = resolve(shelf.stores.registry, spec(traffic={before: 100}))
        try:
            ensure_compatible(old, resolve(shelf.stores.registry, spec(traffic={after: 100}, **more)))
        except Incompatible:
            return False
        return True

    assert not may_follow("1", "2")
    assert not may_follow("1", "3")
    assert may_follow("2", "3")
    assert may_follow("3", "2")
    assert may_follow("2", "1")
    assert may_follow("1", "1")
    assert not may_follow("1", "1", ready=("2",))
