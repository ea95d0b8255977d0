"""What a server remembers of the registry that it follows, and how it tells another one by that (F17)."""

from pathlib import Path

import msgspec
import pytest

from limen.contracts.errors import Reason, Unavailable
from limen.management.stores import FOLLOWED, ensure_not_lost, open_registry
from limen.registry.values import Identity
from limen.serving.sources import planning
from limen.serving.sources.plan_memory import PlanMemory
from limen.serving.sources.planning import Plan
from limen.storage.config import StorageConfig
from tests.services.shelf import Shelf, spec


def test_f17_the_last_plan_is_kept_whole(shelf: Shelf, tmp_path: Path):
    shelf.point("champion", shelf.add())
    shelf.apply(spec(serving=None))
    plan = planning.plan_of(shelf.stores)
    assert PlanMemory(tmp_path, "one").kept() is None
    PlanMemory(tmp_path, "one").keep(plan, "a" * 32, {"credit": plan.endpoints[0]})
    kept = PlanMemory(tmp_path, "one").kept()
    assert kept is not None
    assert (kept.plan, kept.identity, kept.good) == (plan, "a" * 32, {"credit": plan.endpoints[0]})
    # Another registry's plan would be a wrong one.
    assert PlanMemory(tmp_path, "another").kept() is None
    assert [path.name for path in tmp_path.glob("*.json")] == [FOLLOWED]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"revision": "x"}', b"\xff"])
def test_a_plan_that_cannot_be_read_is_none(tmp_path: Path, text: bytes):
    (tmp_path / FOLLOWED).write_bytes(text)
    assert PlanMemory(tmp_path, "one").kept() is None


def test_f08_a_plan_that_cannot_be_kept_keeps_nobody_from_serving(tmp_path: Path):
    PlanMemory(tmp_path / "not there", "one").keep(Plan(1), "", {})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Identity("b" * 32, 9), "not the registry that this home follows"),
        (
            Identity("a" * 32, 6),
            "has gone back to an earlier state: it was at revision 7, and is at revision 6 now",
        ),
    ],
)
def test_f17_another_registry_and_one_that_has_gone_back_are_not_followed(tmp_path: Path, found: Identity, words: str):
    memory = PlanMemory(tmp_path, "one")
    memory.keep(Plan(7), "a" * 32, {})
    for same in (Identity("a" * 32, 7), Identity("a" * 32, 8)):
        memory.ensure_followed(same)
    with pytest.raises(Unavailable, match=words) as refused:
        memory.ensure_followed(found)
    assert refused.value.reason is Reason.STORAGE
    # Somebody decides, in another process.
    PlanMemory(tmp_path, "one").keep(Plan(found.revision), found.registry, {})
    memory.ensure_followed(found)


def test_who_has_followed_nothing_follows_anything(tmp_path: Path):
    PlanMemory(tmp_path, "one").ensure_followed(Identity("a" * 32, 0))


def test_a_plan_of_a_release_without_ids_is_followed_on(tmp_path: Path):
    (tmp_path / FOLLOWED).write_bytes(msgspec.json.encode({"registry": "one", "plan": {"revision": 7}}))
    memory = PlanMemory(tmp_path, "one")
    memory.ensure_followed(Identity("a" * 32, 7))
    with pytest.raises(Unavailable, match="gone back"):
        memory.ensure_followed(Identity("a" * 32, 6))


def test_f17_no_empty_database_takes_the_place_of_one_that_was_followed(tmp_path: Path):
    config = StorageConfig(home=tmp_path)
    ensure_not_lost(config)
    open_registry(config).close()
    PlanMemory(tmp_path, config.database_id).keep(Plan(7), "a" * 32, {})
    (tmp_path / "limen.db").unlink()
    for create in (True, False):
        with pytest.raises(Unavailable, match="is gone") as refused:
            open_registry(config, create=create)
    assert refused.value.place == str(tmp_path / "limen.db")
    assert not (tmp_path / "limen.db").exists()
    open_registry(config, anew=True).close()
