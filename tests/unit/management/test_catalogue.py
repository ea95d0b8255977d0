"""The rules between models and endpoints: what may move, what is needed, and what an endpoint may become."""

from collections.abc import Callable
from pathlib import Path

import pytest

from limen.cli.words import next_step
from limen.contracts.catalogue import ModelVersion
from limen.contracts.compatibility.findings import Change
from limen.contracts.errors import Incompatible, NotAllowedNow, NotFound, Reason, Stale, Unavailable
from limen.serving.sources.package_cache import PackageCache
from limen.storage import causes
from tests.services.shelf import Shelf, spec


def aliases(shelf: Shelf) -> dict[str, int]:
    return {a.alias: a.version for a in shelf.stores.registry.aliases("credit")}


def test_an_alias_moves_only_where_every_endpoint_that_follows_it_may_go(shelf: Shelf):
    first, breaking, good = shelf.add(), shelf.add(minimum=1), shelf.add()
    shelf.point("champion", first)
    shelf.apply(spec())
    shelf.apply(spec(name="other", traffic={"1": 100}, ready=("champion",)))
    revision = shelf.stores.registry.revision()
    with pytest.raises(Incompatible, match="version 2 would break callers of version 1"):
        shelf.point("champion", breaking)
    assert (aliases(shelf), shelf.stores.registry.revision()) == ({"champion": 1}, revision)
    shelf.point("champion", good)
    assert aliases(shelf) == {"champion": 3}


def test_an_alias_that_no_endpoint_follows_moves_anywhere(shelf: Shelf):
    first, breaking, other = shelf.add(), shelf.add(minimum=1), shelf.add(major=2)
    shelf.point("spare", first)
    shelf.point("champion", first)
    shelf.apply(spec())
    for version in (breaking, other, first):
        shelf.point("spare", version)
    assert aliases(shelf) == {"spare": 1, "champion": 1}


def test_an_alias_that_is_followed_stays_in_its_major_and_does_not_name_what_is_retired(shelf: Shelf):
    first, other, retired = shelf.add(), shelf.add(major=2), shelf.add()
    shelf.point("champion", first)
    shelf.apply(spec())
    shelf.retire(retired)
    with pytest.raises(Incompatible):
        shelf.point("champion", other)
    with pytest.raises(NotAllowedNow) as refused:
        shelf.point("champion", retired)
    assert refused.value.reason is Reason.RETIRED


def test_going_back_is_always_allowed(shelf: Shelf):
    wide, narrow, wide_again = shelf.add(), shelf.add(minimum=1), shelf.add()
    shelf.point("champion", narrow)
    shelf.apply(spec())
    shelf.point("champion", wide_again)
    for version in (narrow, wide):
        shelf.point("champion", version)
        assert aliases(shelf) == {"champion": version.number}
    with pytest.raises(Incompatible):
        shelf.point("champion", narrow)


def test_what_an_endpoint_needs_is_not_taken_away_and_what_it_does_not_is(shelf: Shelf):
    first, second, third = shelf.add(), shelf.add(), shelf.add()
    shelf.point("champion", first)
    shelf.apply(spec(ready=("2",)))
    with pytest.raises(NotAllowedNow, match="the endpoint credit follows the alias") as refused:
        shelf.unpoint("champion")
    assert refused.value.reason is Reason.IN_USE
    with pytest.raises(NotAllowedNow, match="the endpoint credit uses the version"):
        shelf.retire(second)
    with pytest.raises(NotAllowedNow, match="the alias champion points to it"):
        shelf.retire(first)
    shelf.retire(third)
    shelf.remove("credit")
    shelf.unpoint("champion")
    shelf.retire(first)
    shelf.retire(second)


def test_names_of_another_model_are_not_those_of_this_one(shelf: Shelf):
    first, other = shelf.add(), shelf.add("other")
    shelf.point("champion", first)
    shelf.point("champion", other)
    shelf.apply(spec())
    shelf.unpoint("champion", "other")
    shelf.retire(other)


def test_an_endpoint_becomes_only_what_breaks_nobody_who_calls_it(shelf: Shelf):
    shelf.add()
    shelf.add(minimum=1)
    shelf.add("other", minimum=1)
    shelf.add("other")
    shelf.apply(spec(traffic={"1": 100}))
    for wrong in (
        spec(traffic={"2": 100}),
        spec(traffic={"1": 99, "2": 1}),
        spec(traffic={"1": 100}, ready=("2",)),
        spec(model="other", traffic={"1": 100}),
    ):
        with pytest.raises(Incompatible):
            shelf.catalogue.preview(wrong)
        with pytest.raises(Incompatible):
            shelf.apply(wrong)
    assert shelf.stores.endpoints.get("credit").revision == 1
    shelf.apply(spec(model="other", traffic={"2": 100}))


def test_another_promise_is_another_major(shelf: Shelf):
    shelf.add()
    shelf.add(minimum=1, major=2)
    shelf.apply(spec(traffic={"1": 100}))
    with pytest.raises(Incompatible):
        shelf.apply(spec(traffic={"2": 100}))
    shelf.apply(spec(name="credit.v2", major=2, traffic={"2": 100}))
    shelf.apply(spec(major=2, traffic={"2": 100}))


def test_an_endpoint_whose_versions_are_gone_is_compatible_with_anything(shelf: Shelf):
    first = shelf.add()
    shelf.add(minimum=1)
    shelf.point("champion", first)
    shelf.apply(spec())
    # As an older release might have let it happen.
    with shelf.stores.database.transaction() as connection:
        shelf.stores.registry.remove_alias(connection, "credit", "champion", expected=None)
    shelf.apply(spec(traffic={"2": 100}))


def test_a_preview_changes_nothing_and_applying_the_same_again_neither(shelf: Shelf):
    shelf.point("champion", shelf.add())
    new = shelf.catalogue.preview(spec())
    assert (new.is_new, new.revision) == (True, 0)
    assert ("traffic.champion", None, 100) in [(c.path, c.before, c.after) for c in new.changes]
    shelf.apply(spec())
    same = shelf.catalogue.preview(spec())
    assert (same.is_new, same.revision, same.changes) == (False, 1, ())
    assert shelf.apply(spec()).revision == 1
    paused = shelf.catalogue.preview(spec(is_paused=True))
    assert [(c.path, c.before, c.after) for c in paused.changes] == [("paused", None, True)]


def test_b79_an_endpoint_that_has_changed_since_is_not_overwritten(shelf: Shelf):
    shelf.point("champion", shelf.add())
    shelf.apply(spec())
    with shelf.stores.database.transaction() as connection, pytest.raises(Stale):
        shelf.catalogue.apply(connection, spec(is_paused=True), expected=7, by="ada")


def test_two_versions_are_compared_by_number_or_alias(shelf: Shelf):
    shelf.point("champion", shelf.add())
    shelf.add(minimum=1)
    found = shelf.catalogue.diff("credit", "champion", "2")
    assert (found.before, found.after, found.verdict) == (1, 2, Change.BREAKING)
    assert [f.path for f in found.findings] == ["inputs.amount.minimum"]
    assert shelf.catalogue.diff("credit", "2", "champion").verdict is not Change.BREAKING
    with pytest.raises(NotFound):
        shelf.catalogue.diff("credit", "1", "nobody")


def blob(shelf: Shelf, version: ModelVersion) -> Path:
    key = shelf.stores.registry.archive_of(version.model, version.number).archive
    return shelf.home / "blobs" / key[:2] / key


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: path.write_bytes(b"damaged"), causes.DAMAGED_PACKAGE),
        (lambda path: path.unlink(), causes.LOST_PACKAGE),
    ],
    ids=["damaged", "lost"],
)
def test_f18_nothing_that_is_followed_moves_to_a_version_whose_package_is_gone(
    shelf: Shelf, harm: Callable[[Path], object], words: str
):
    first, second = shelf.add(), shelf.add()
    shelf.point("champion", first)
    shelf.apply(spec())
    harm(blob(shelf, second))
    with pytest.raises(Unavailable) as refused:
        shelf.catalogue.ensure_alias_can_move("credit", "champion", 2)
    assert refused.value.message == f"version 2 of credit cannot be served: {words}"
    assert "Publish the same package again" in next_step(refused.value.reason, message=refused.value.message)
    for wanted in (spec(ready=("2",)), spec(name="other", traffic={"2": 100})):
        with pytest.raises(Unavailable, match="version 2 of credit"):
            shelf.catalogue.ensure_can_serve(wanted)
    # An alias that nobody follows, and a spec that loads nothing, ask for no package.
    shelf.catalogue.ensure_alias_can_move("credit", "spare", 2)
    shelf.catalogue.ensure_can_serve(spec(ready=("2",), is_paused=True))


def test_f18_what_an_endpoint_has_already_does_not_stand_in_the_way_of_a_change(shelf: Shelf):
    shelf.point("champion", shelf.add())
    shelf.apply(spec())
    blob(shelf, shelf.add()).with_name("other").touch()
    blob(shelf, shelf.stores.registry.version("credit", 1)).unlink()
    shelf.catalogue.ensure_can_serve(spec(ready=("2",)))


def test_f18_going_back_needs_no_store_where_the_package_is_on_this_machine(shelf: Shelf, tmp_path: Path):
    first, second = shelf.publish(tmp_path), shelf.publish(tmp_path)
    shelf.point("champion", second)
    shelf.apply(spec(name="score", model="score"))
    cache, kept = PackageCache(shelf.home, shelf.stores.blobs), blob(shelf, first)
    package = cache.open(first.digest, kept.name, "score/1")
    kept.unlink()
    shelf.catalogue.ensure_alias_can_move("score", "champion", 1)
    (package.root / "model.onnx").unlink()
    with pytest.raises(Unavailable):
        shelf.catalogue.ensure_alias_can_move("score", "champion", 1)
