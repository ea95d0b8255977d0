"""What a registry keeps and refuses, the same in every database."""

from collections.abc import Callable

import msgspec
import pytest

from limen.contracts.catalogue import Alias, Evidence, EvidenceKind, Lineage, Verdict
from limen.contracts.errors import (
    AlreadyExists,
    Incompatible,
    Internal,
    InvalidArgument,
    NotAllowedNow,
    NotFound,
    Reason,
    Stale,
)
from limen.registry.registry import Registry
from limen.storage import schema
from limen.storage.database import Database
from limen.testing.clock import START, FakeClock
from tests.conformance.registry.making import add, contract, digest, new_version


def test_a_version_is_kept_as_it_was_registered(database: Database, registry: Registry):
    made = add(database, registry, tags={"team": "risk"}, needs_trust=True, signer="f" * 64, signature="a" * 64)
    assert made == registry.version("credit", 1)
    assert made.number == 1
    assert made.digest == digest("first")
    assert made.contract.input("amount") == msgspec.structs.replace(contract().inputs[0], number=1)
    assert made.lineage == Lineage(source="run-7", code="abc")
    assert made.tags == {"team": "risk"}
    assert (made.needs_trust, made.backend, made.signer, made.created_by) == (True, "onnx", "f" * 64, "ada")
    assert made.created_at == START
    assert made.created_at.tzinfo is not None
    archive = registry.archive_of("credit", 1)
    assert archive.digest == digest("first")
    assert archive.archive == digest("archive of first")
    assert archive.signature == "a" * 64
    assert archive.size == 1234


def test_a_contract_survives_with_everything_it_can_say(database: Database, registry: Registry):
    field = msgspec.structs.replace(
        contract().inputs[0], default=0.1, enum=(1, 2.5, True, "x"), minimum=-1, examples=([1.0], None), unit="€"
    )
    rich = msgspec.structs.replace(contract(), inputs=(field,), tags=("a", "b"), description="ü\n<script>")
    made = add(database, registry, of=rich)
    assert registry.version("credit", 1).contract == made.contract
    assert made.contract.inputs[0] == msgspec.structs.replace(field, number=1)


def test_numbers_are_consecutive_in_each_model(database: Database, registry: Registry):
    first = [add(database, registry, content).number for content in ("a", "b", "c")]
    other = add(database, registry, "a", contract("fraud")).number
    assert (first, other) == ([1, 2, 3], 1)


def test_b98_the_same_package_again_is_the_same_version(database: Database, registry: Registry):
    made = add(database, registry, "a", created_by="ada")
    add(database, registry, "b")
    assert add(database, registry, "a", created_by="eve", number=1) == made
    assert len(registry.versions("credit")) == 2


def test_a_package_is_found_by_its_content(database: Database, registry: Registry):
    made = add(database, registry, "a")
    add(database, registry, "b")
    retire(database, registry, 1)
    found = registry.find("credit", made.digest)
    assert found == registry.version("credit", 1)
    assert registry.find("credit", digest("none")) is None
    assert registry.find("fraud", made.digest) is None


def test_b98_a_number_is_never_given_to_other_bytes(database: Database, registry: Registry):
    add(database, registry, "a", number=7)
    with pytest.raises(AlreadyExists):
        add(database, registry, "b", number=7)
    with pytest.raises(AlreadyExists):
        add(database, registry, "a", number=8)
    assert add(database, registry, "c").number == 8
    assert add(database, registry, "d", number=2).number == 2
    assert add(database, registry, "e").number == 9


def test_b98_the_database_itself_refuses_to_change_facts(database: Database, registry: Registry):
    add(database, registry)
    with database.transaction() as connection:
        registry.add_evidence(connection, evidence())
        registry.set_alias(connection, "credit", "champion", 1, expected=0, by="ada")
    for name in ("versions", "evidence", "alias_moves", "field_numbers"):
        table = schema.metadata.tables[name]
        column = next(iter(table.columns.values()))
        with pytest.raises(Internal), database.transaction() as connection:
            connection.execute(table.update().values({column.name: column}))
        with pytest.raises(Internal), database.transaction() as connection:
            connection.execute(table.delete())
    assert registry.version("credit", 1).digest == digest("first")


def evidence(version: int = 1, kind: EvidenceKind = EvidenceKind.GOLDEN) -> Evidence:
    return Evidence(
        model="credit", version=version, kind=kind, verdict=Verdict.PASS, body={"rows": [1, 2.5]}, created_at=START
    )


def test_evidence_is_kept_in_order(database: Database, registry: Registry):
    add(database, registry)
    with database.transaction() as connection:
        first = registry.add_evidence(connection, evidence())
        second = registry.add_evidence(connection, evidence(kind=EvidenceKind.SCAN))
    assert registry.evidence("credit", 1) == [first, second]
    assert registry.evidence("credit", 1, EvidenceKind.SCAN) == [second]
    assert registry.evidence("credit", 1, EvidenceKind.APPROVAL) == []
    assert msgspec.structs.replace(first, id=0) == evidence()
    assert first.id < second.id
    with pytest.raises(NotFound):
        registry.evidence("credit", 2)
    with pytest.raises(NotFound), database.transaction() as connection:
        registry.add_evidence(connection, evidence(version=2))


# -- Protobuf numbers --------------------------------------------------------------------------------------------------------


def test_a_field_keeps_its_number_when_others_come_and_go(database: Database, registry: Registry):
    add(database, registry, "a", contract(inputs="amount age"))
    add(database, registry, "b", contract(inputs="income amount"))
    third = add(database, registry, "c", contract(inputs="age income amount"))
    assert {f.name: f.number for f in third.contract.inputs} == {"amount": 1, "age": 2, "income": 3}
    assert registry.numbers("credit", 1).inputs == {"amount": 1, "age": 2, "income": 3}


def test_a_number_that_was_given_is_not_given_again(database: Database, registry: Registry):
    add(database, registry, "a", contract(inputs="amount age"))
    with pytest.raises(Incompatible) as refused:
        add(database, registry, "b", contract(inputs="amount income:2"))
    assert [violation.path for violation in refused.value.violations] == ["inputs.income.number"]
    assert [version.number for version in registry.versions("credit")] == [1]


def test_each_major_numbers_its_fields_anew(database: Database, registry: Registry):
    add(database, registry, "a", contract(inputs="amount age"))
    made = add(database, registry, "b", contract(inputs="age", major=2))
    assert made.contract.inputs[0].number == 1
    assert registry.numbers("credit", 1).inputs == {"amount": 1, "age": 2}


# -- reads -------------------------------------------------------------------------------------------------------------------


def test_versions_are_listed_newest_first_in_pages(database: Database, registry: Registry):
    for i in range(5):
        add(database, registry, str(i), tags={"stage": "old" if i < 2 else "new", "n": str(i)})
    retire(database, registry, 4)
    numbers = [version.number for version in registry.versions("credit", limit=2)]
    assert numbers == [5, 3]
    assert [version.number for version in registry.versions("credit", before=3)] == [2, 1]
    assert [v.number for v in registry.versions("credit", include_retired=True, limit=2)] == [5, 4]
    assert [v.number for v in registry.versions("credit", tags={"stage": "new"})] == [5, 3]
    assert [v.number for v in registry.versions("credit", tags={"stage": "new", "n": "2"})] == [3]
    assert registry.versions("credit", tags={"stage": "none"}) == []


def test_models_are_listed_by_name_in_pages(database: Database, registry: Registry):
    for name in ("zebra", "a-model", "a.model", "a_model", "apple", "0-model"):
        add(database, registry, of=contract(name))
    names = [model.name for model in registry.models()]
    assert names == sorted(names)
    assert [model.name for model in registry.models(after=names[1], limit=2)] == names[2:4]
    with database.transaction() as connection:
        registry.set_tags(connection, "apple", None, {"team": "fruit"}, expected=None)
    assert [model.name for model in registry.models(tags={"team": "fruit"})] == ["apple"]


def test_a_model_says_what_its_versions_say(database: Database, registry: Registry, clock: FakeClock):
    add(database, registry, "a", contract(title="Old"))
    clock.advance(60)
    add(database, registry, "b", contract(title="New"))
    add(database, registry, "c", contract(title="Newest"))
    retire(database, registry, 3)
    with database.transaction() as connection:
        registry.set_alias(connection, "credit", "champion", 2, expected=0, by="ada")
    model = registry.model("credit")
    assert (model.title, model.owner, model.latest, model.versions) == ("Newest", "risk@bank", 2, 3)
    assert model.aliases == {"champion": 2}
    assert model.created_at == START


def test_a_reference_is_a_number_or_an_alias(database: Database, registry: Registry):
    add(database, registry, "a")
    add(database, registry, "b")
    with database.transaction() as connection:
        registry.set_alias(connection, "credit", "champion", 1, expected=None, by="ada")
    assert registry.resolve("credit", "2").number == 2
    assert registry.resolve("credit", "champion").number == 1
    assert registry.resolve("credit", "champion").aliases == ("champion",)
    for model, reference in (("credit", "3"), ("credit", "other"), ("credit", "latest"), ("fraud", "1"), ("x", "y")):
        with pytest.raises(NotFound):
            registry.resolve(model, reference)
    with pytest.raises(NotFound):
        registry.resolve("credit", "999999999999999999")


def test_the_incumbent_is_the_newest_of_its_major_in_use(database: Database, registry: Registry):
    assert registry.incumbent("credit", 1) is None
    add(database, registry, "a")
    add(database, registry, "b")
    add(database, registry, "c", contract(major=2))
    retire(database, registry, 2)
    assert [found.number for major in (1, 2) if (found := registry.incumbent("credit", major))] == [1, 3]


READS: dict[str, Callable[[Registry], object]] = {
    "model": lambda registry: registry.model("none"),
    "versions": lambda registry: registry.versions("none"),
    "version": lambda registry: registry.version("none", 1),
    "aliases": lambda registry: registry.aliases("none"),
    "archive": lambda registry: registry.archive_of("none", 1),
    "evidence": lambda registry: registry.evidence("none", 1),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_is_not_there_is_not_found(registry: Registry, read: Callable[[Registry], object]):
    with pytest.raises(NotFound):
        read(registry)


# -- aliases -----------------------------------------------------------------------------------------------------------------


def set_alias(database: Database, registry: Registry, version: int, expected: int | None) -> Alias:
    with database.transaction() as connection:
        return registry.set_alias(connection, "credit", "champion", version, expected=expected, by="ada")


def test_an_alias_moves_for_who_saw_where_it_was(database: Database, registry: Registry, clock: FakeClock):
    add(database, registry, "a")
    add(database, registry, "b")
    made = set_alias(database, registry, 1, 0)
    assert (made.version, made.revision) == (1, 1)
    clock.advance(5)
    moved = set_alias(database, registry, 2, 1)
    assert (moved.version, moved.revision) == (2, 2)
    assert moved.updated_at > made.updated_at
    assert registry.aliases("credit") == [moved]
    assert set_alias(database, registry, 2, None) == moved


@pytest.mark.parametrize("expected", [0, 2, 7])
def test_b79_an_alias_does_not_move_for_who_saw_something_else(database: Database, registry: Registry, expected: int):
    add(database, registry)
    made = set_alias(database, registry, 1, 0)
    with pytest.raises(Stale):
        set_alias(database, registry, 1, expected)
    assert registry.aliases("credit") == [made]


def test_b79_an_alias_that_was_removed_and_made_again_is_another(database: Database, registry: Registry):
    add(database, registry)
    seen = set_alias(database, registry, 1, 0)
    with database.transaction() as connection:
        registry.remove_alias(connection, "credit", "champion", expected=seen.revision, by="ada")
    assert registry.aliases("credit") == []
    again = set_alias(database, registry, 1, 0)
    assert again.revision > seen.revision
    with pytest.raises(Stale):
        set_alias(database, registry, 1, seen.revision)


def test_the_history_of_an_alias_outlives_it(database: Database, registry: Registry, clock: FakeClock):
    add(database, registry, "a")
    add(database, registry, "b")
    set_alias(database, registry, 1, 0)
    set_alias(database, registry, 2, 1)
    clock.advance(5)
    with database.transaction() as connection:
        registry.remove_alias(connection, "credit", "champion", expected=2, by="eve")
    history = registry.alias_history("credit", "champion")
    assert [(move.revision, move.version, move.moved_by) for move in history] == [
        (3, None, "eve"),
        (2, 2, "ada"),
        (1, 1, "ada"),
    ]
    assert history[0].moved_at > history[1].moved_at == START
    assert registry.alias_history("credit", "champion", before=3, limit=1) == history[1:2]
    assert registry.alias_history("credit", "other") == []
    with pytest.raises(NotFound):
        registry.alias_history("fraud", "champion")


def test_an_alias_that_is_not_there_is_not_removed(database: Database, registry: Registry):
    add(database, registry)
    with pytest.raises(NotFound), database.transaction() as connection:
        registry.remove_alias(connection, "credit", "champion", expected=None)


@pytest.mark.parametrize("alias", ["latest", "7", "Champion", "", "a b", "a" * 64, "é"], ids=repr)
def test_an_alias_is_a_name_that_is_no_number(database: Database, registry: Registry, alias: str):
    add(database, registry)
    with pytest.raises(InvalidArgument), database.transaction() as connection:
        registry.set_alias(connection, "credit", alias, 1, expected=None, by="ada")


# -- tags and retirement -----------------------------------------------------------------------------------------------------


def retire(database: Database, registry: Registry, number: int, expected: int | None = None) -> None:
    with database.transaction() as connection:
        registry.retire(connection, "credit", number, "worse", expected=expected, by="ada")


def test_tags_are_set_and_removed_one_by_one(database: Database, registry: Registry):
    made = add(database, registry, tags={"team": "risk", "run": "7"})
    with database.transaction() as connection:
        changed = registry.set_tags(connection, "credit", 1, {"run": None, "area": "eu"}, expected=made.revision)
    assert changed.tags == {"team": "risk", "area": "eu"}
    assert changed.revision == made.revision + 1
    with pytest.raises(Stale), database.transaction() as connection:
        registry.set_tags(connection, "credit", 1, {"team": "x"}, expected=made.revision)
    with database.transaction() as connection:
        model = registry.set_tags(connection, "credit", None, {"kind": "score"}, expected=1)
    assert (model.tags, model.revision) == ({"kind": "score"}, 2)
    with pytest.raises(Stale), database.transaction() as connection:
        registry.set_tags(connection, "credit", None, {"kind": "x"}, expected=1)
    assert registry.model("credit") == model
    assert registry.version("credit", 1) == changed


@pytest.mark.parametrize(
    "tags",
    [{"": "x"}, {"a b": "x"}, {"k": "x" * 257}, {"k": "a\nb"}, {f"k{i}": "v" for i in range(65)}],
    ids=["no key", "space", "long", "line", "many"],
)
def test_tags_are_short_and_few(database: Database, registry: Registry, tags: dict[str, str]):
    add(database, registry)
    with pytest.raises(InvalidArgument) as refused, database.transaction() as connection:
        registry.set_tags(connection, "credit", 1, tags, expected=None)
    assert refused.value.violations[0].path.startswith("tags")
    with pytest.raises(InvalidArgument):
        add(database, registry, "other", tags=tags)


def test_tags_stay_few_when_they_are_added_one_by_one(database: Database, registry: Registry):
    add(database, registry, tags={f"k{i}": "v" for i in range(64)})
    with pytest.raises(InvalidArgument), database.transaction() as connection:
        registry.set_tags(connection, "credit", 1, {"one": "more"}, expected=None)


def test_a_version_that_an_alias_names_is_not_retired(database: Database, registry: Registry):
    add(database, registry)
    set_alias(database, registry, 1, 0)
    with pytest.raises(NotAllowedNow, match="champion") as refused:
        retire(database, registry, 1)
    assert refused.value.reason is Reason.IN_USE


def test_a_retired_version_is_named_by_nobody_until_it_is_restored(database: Database, registry: Registry):
    made = add(database, registry)
    retire(database, registry, 1, made.revision)
    retired = registry.version("credit", 1)
    assert (retired.is_retired, retired.retired_reason, retired.revision) == (True, "worse", 2)
    retire(database, registry, 1)
    assert registry.version("credit", 1) == retired
    with pytest.raises(NotAllowedNow) as refused:
        set_alias(database, registry, 1, None)
    assert refused.value.reason is Reason.RETIRED
    with pytest.raises(Stale), database.transaction() as connection:
        registry.restore(connection, "credit", 1, expected=1, by="ada")
    with database.transaction() as connection:
        restored = registry.restore(connection, "credit", 1, expected=2, by="ada")
    assert (restored.is_retired, restored.retired_reason, restored.revision) == (False, "", 3)
    set_alias(database, registry, 1, 0)


def test_the_revision_grows_with_every_change_and_no_read(database: Database, registry: Registry):
    before = registry.revision()
    assert registry.models() == []
    assert registry.revision() == before
    add(database, registry)
    after = registry.revision()
    assert after > before
    retire(database, registry, 1)
    assert registry.revision() > after


def test_what_a_transaction_began_and_did_not_end_is_nowhere(database: Database, registry: Registry):
    before = registry.revision()
    with pytest.raises(NotFound):
        add_and_fail(database, registry)
    assert registry.models() == []
    assert registry.revision() == before


def add_and_fail(database: Database, registry: Registry) -> None:
    with database.transaction() as connection:
        registry.add_version(connection, new_version())
        registry.set_alias(connection, "credit", "champion", 2, expected=None, by="ada")
