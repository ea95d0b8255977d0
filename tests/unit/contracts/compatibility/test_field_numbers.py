"""Protobuf numbers outlive a version: a field keeps the one it was first given."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.compatibility.field_numbers import keep_numbers
from limen.contracts.contract import Contract, Field
from limen.contracts.errors import Incompatible, InvalidPackage
from limen.contracts.proto.schema import field_numbers


def contract(*inputs: str | tuple[str, int], outputs: tuple[str, ...] = ("y",)) -> Contract:
    """Return a contract whose inputs may ask for a number."""
    made = [
        Field(name=i, type="bool") if isinstance(i, str) else Field(name=i[0], type="bool", number=i[1]) for i in inputs
    ]
    return Contract(name="m", inputs=tuple(made), outputs=tuple(Field(name=o, type="bool") for o in outputs))


def numbers_of(made: Contract) -> dict[str, int | None]:
    return {f.name: f.number for f in made.inputs}


def test_the_first_version_has_the_numbers_it_would_have_without_a_registry():
    first = keep_numbers(contract("a", "b", outputs=("x", "y")), {}, {})
    assert (first.inputs, first.outputs) == ({"a": 1, "b": 2}, {"x": 1, "y": 2})
    assert numbers_of(first.contract) == first.inputs
    assert keep_numbers(contract(("a", 7), ("b", 3)), {}, {}).inputs == {"a": 7, "b": 3}


def test_a_field_keeps_its_number_wherever_it_stands():
    found = keep_numbers(contract("new", "b", "a"), {"a": 1, "b": 2}, {"y": 1})
    assert numbers_of(found.contract) == {"new": 3, "b": 2, "a": 1}
    assert found.inputs == {"a": 1, "b": 2, "new": 3}


def test_the_number_of_a_field_that_is_gone_stays_its_own():
    found = keep_numbers(contract("a", "c"), {"a": 1, "b": 2}, {"y": 1})
    assert found.inputs == {"a": 1, "b": 2, "c": 3}
    again = keep_numbers(contract("a", "b", "c"), found.inputs, {"y": 1})
    assert numbers_of(again.contract) == {"a": 1, "b": 2, "c": 3}


def test_inputs_and_outputs_are_numbered_apart():
    found = keep_numbers(contract("a", outputs=("y", "z")), {"a": 4}, {"y": 9})
    assert (found.inputs, found.outputs) == ({"a": 4}, {"y": 9, "z": 10})


def test_an_explicit_number_that_contradicts_is_refused_with_every_path():
    with pytest.raises(Incompatible) as caught:
        keep_numbers(contract(("a", 5), ("b", 2), ("c", 3)), {"a": 1, "b": 2, "gone": 3}, {"y": 1})
    assert {str(v) for v in caught.value.violations} == {
        "inputs.a.number: must stay 1, which callers' code was generated with",
        "inputs.c.number: is the number of gone and never given to another field",
    }


def test_a_new_number_skips_those_protobuf_keeps_and_ends_with_the_last():
    assert keep_numbers(contract("a", "b"), {"a": 18_999}, {}).inputs["b"] == 20_000
    with pytest.raises(InvalidPackage) as caught:
        keep_numbers(contract("a", "b"), {"a": 536_870_911}, {})
    assert caught.value.violations[0].path == "inputs.b.number"
    with pytest.raises(InvalidPackage):
        keep_numbers(contract(("a", 4), ("b", 4)), {"c": 1}, {})


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True), min_size=1, max_size=6))
def test_no_number_ever_changes_its_field(versions):
    inputs, outputs = {}, {}
    for names in versions:
        found = keep_numbers(contract(*names), inputs, outputs)
        assert inputs.items() <= found.inputs.items()
        assert len(set(found.inputs.values())) == len(found.inputs)
        assert numbers_of(found.contract) == {n: found.inputs[n] for n in names}
        assert field_numbers(found.contract.inputs, "inputs") == {n: found.inputs[n] for n in names}
        assert keep_numbers(found.contract, found.inputs, found.outputs) == found
        bare = tuple(msgspec.structs.replace(f, number=None) for f in found.contract.inputs)
        assert bare == contract(*names).inputs
        inputs, outputs = found.inputs, found.outputs
