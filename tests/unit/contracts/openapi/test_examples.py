"""Examples that the documents show are inside the contract, and show nothing that must be kept."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.contract import Contract, Example, Field, Sensitivity
from limen.contracts.openapi.examples import contract_document, example_outputs, example_record, example_value, shape_of
from limen.contracts.openapi.pattern_example import matching_text
from limen.contracts.validation.records import RecordCodec
from tests.unit.contracts.served import ALL, CREDIT, EVERYTHING


@pytest.mark.parametrize("served", ALL, ids=lambda s: s.contract.name)
def test_the_example_record_passes_the_contract(served):
    records = RecordCodec(served.contract).tensors([example_record(served.contract)])
    assert set(records) == {f.name for f in served.contract.inputs}


def test_a_golden_example_is_shown_before_anything_else():
    record = example_record(CREDIT)
    assert (record["loan_amount"], record["purpose"]) == (6000, "car")
    assert example_outputs(CREDIT) == {"default_probability": 0.031, "decision": "accept"}


def test_a_field_that_the_golden_example_leaves_out_shows_what_stands_in_for_it():
    contract = Contract(
        name="m",
        inputs=(
            Field(name="a", type="int32"),
            Field(name="b", type="int32", default=7, examples=(1,)),
            Field(name="c", type="float32", nullable=True, examples=(1.5,)),
        ),
        outputs=(),
        examples=(Example(inputs={"a": 3}),),
    )
    assert example_record(contract) == {"a": 3, "b": 7, "c": None}


def test_values_of_secret_and_personal_fields_in_golden_examples_are_never_shown():
    assert example_record(CREDIT)["applicant_ref"] == "text"
    assert example_record(EVERYTHING)["token"] == "text"


def test_the_contract_document_keeps_the_owners_sensitive_values_to_itself():
    text = str(contract_document(EVERYTHING)) + str(contract_document(CREDIT))
    assert "hush" not in text
    assert "hidden" not in text
    assert "real-person" not in text
    assert contract_document(CREDIT)["inputs"][0]["unit"] == "USD"


def test_an_example_of_another_shape_than_the_field_is_passed_over():
    field = Field(name="x", type="float32", shape=(2, -1), examples=(1.0, [[1.0], [2.0, 3.0]], [[1.0], [2.0]]))
    assert example_value(field) == [[1.0], [2.0]]


def test_a_secret_fields_own_examples_are_never_shown():
    field = Field(name="x", type="string", sensitivity=Sensitivity.SECRET, examples=("swordfish",))
    assert example_value(field) == "text"


@given(
    st.sampled_from(["int8", "uint8", "int64", "float32", "float64"]),
    st.one_of(st.none(), st.floats(0, 100), st.integers(-100, 100)),
    st.one_of(st.none(), st.floats(1, 20)),
)
def test_made_up_numbers_are_inside_the_limits(kind, low, width):
    high = None if width is None else max(low or 0, 0) + width
    value = example_value(Field(name="x", type=kind, minimum=low, maximum=high))
    assert low is None or value >= low
    assert high is None or value <= high


@pytest.mark.parametrize(
    ("pattern", "lengths"),
    [
        (r"^[A-Z]{2}\d{3,5}$", (6, 7)),
        (r"^(?:foo|bar)+(?P<tail>baz)?$", (None, None)),
        (r"^\d{4}-\d{2}-\d{2}$", (None, 10)),
        (r"^[^\s@]+@[^\s@]+\.[a-z]{2,}$", (12, None)),
        (r"[]x]\.\w*?$", (None, None)),
        (r"\bcat\b", (3, 3)),
    ],
)
def test_a_text_is_found_for_the_usual_patterns(pattern, lengths):
    text = matching_text(pattern, min_length=lengths[0], max_length=lengths[1])
    assert text is not None
    assert re.search(pattern, text)
    assert (lengths[0] or 0) <= len(text) <= (lengths[1] or 256)


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"^(a)\1$", "^$x", r"[^\x00-\U0010ffff]"])
def test_no_text_is_made_up_for_a_pattern_that_is_not_understood_or_matches_nothing(pattern):
    assert matching_text(pattern) is None


def test_the_shape_of_nested_lists_is_read_and_ragged_ones_have_none():
    assert shape_of([[1, 2, 3], [4, 5, 6]], 2) == (2, 3)
    assert shape_of([], 2) == (0, 0)
    assert shape_of([[1], [2, 3]], 2) is None
    assert shape_of([1], 0) is None
    assert shape_of(1, 1) is None
