"""The verdict on a new contract: a table of edits, and what the verdict promises about real requests."""

import re

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.compatibility.compare import compare
from limen.contracts.compatibility.fields import Side, field_findings
from limen.contracts.compatibility.findings import Change, Compatibility, FindingKind, Surface
from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidArgument, InvalidOutput
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from tests.unit.contracts.edits import BREAKING, EDITS, LOAN, NOTE, more, put, with_contract, without
from tests.unit.contracts.made_contracts import WORDS, edited_pairs, is_good, limited_pairs, records_of
from tests.unit.contracts.served import ALL


@pytest.mark.parametrize(
    ("new", "verdict", "path", "kind", "surfaces"), [e[1:] for e in EDITS], ids=[e[0] for e in EDITS]
)
def test_an_edit_has_the_verdict_of_the_table(new, verdict, path, kind, surfaces):
    found = compare(LOAN, new)
    assert found.verdict is verdict
    shown = [(f.path, f.kind, f.change, f.surfaces) for f in found.findings]
    if kind is None:
        assert shown == []
    else:
        assert (path, kind, verdict, surfaces) in shown
        # Nothing else is worse than what the table is about.
        assert {f.path for f in found.findings if f.change is verdict} <= {path, path.replace("shape", "labels")}


def test_the_table_has_the_edits_that_were_promised():
    assert len(EDITS) >= 40
    assert len({name for name, *_ in EDITS}) == len(EDITS)
    assert {kind for *_, kind, _ in EDITS if kind} == set(FindingKind)


@pytest.mark.parametrize("new", [e[1] for e in EDITS], ids=[e[0] for e in EDITS])
def test_every_finding_says_in_a_sentence_what_callers_will_see(new):
    for finding in compare(LOAN, new).findings:
        assert re.fullmatch(r"[A-Z].{20,}\.", finding.reason), finding
        assert bool(finding.surfaces) == (finding.change is BREAKING)


@pytest.mark.parametrize("contract", [LOAN, *(s.contract for s in ALL)], ids=lambda c: c.name)
def test_a_contract_is_compatible_with_itself(contract):
    assert compare(contract, contract) == Compatibility(old_major=1, new_major=1)


def test_a_second_input_breaks_bare_values():
    one = with_contract(inputs=LOAN.inputs[:1])
    two = with_contract(inputs=(*one.inputs, Field(name="age", type="int8", default=40)))
    assert [(f.path, f.surfaces) for f in compare(one, two).breaking] == [("inputs", (Surface.RECORDS,))]
    body = b'{"instances": [600]}'
    assert RecordCodec(one).decode(body).rows == 1
    with pytest.raises(InvalidArgument):
        RecordCodec(two).decode(body)


def test_a_field_under_another_name_is_recognised():
    [gone, came] = compare(LOAN, put("limit", name="ceiling")).findings
    assert (gone.path, gone.reason) == ("inputs.limit", "It is now named ceiling; callers that send it are refused.")
    assert came.path == "inputs.ceiling"


def test_a_number_of_a_field_that_is_gone_is_not_given_to_another():
    new = with_contract(without("inputs", "amount"), outputs=LOAN.outputs)
    new = with_contract(new, inputs=(Field(name="age", type="int8", default=1, number=1), *new.inputs))
    [finding] = [f for f in compare(LOAN, new).breaking if f.path.endswith("number")]
    assert finding.reason == "The Protobuf number belongs to amount and cannot be reused for another field."


def test_the_worst_finding_is_the_verdict_and_breaking_ones_are_violations():
    new = more("inputs", Field(name="age", type="int8"), Field(name="sex", type="string", nullable=True))
    found = compare(LOAN, with_contract(new, licence="MIT"))
    assert [f.change for f in found.findings] == [NOTE, BREAKING, Change.COMPATIBLE]
    assert [v.path for v in found.violations] == ["inputs.age"]
    assert found.breaks_callers


def test_a_breaking_contract_of_another_major_breaks_nobody():
    found = compare(LOAN, with_contract(without("outputs", "risk"), major=2))
    assert found.verdict is BREAKING
    assert not found.breaks_callers


def test_a_comparison_survives_json():
    found = compare(LOAN, put("amount", minimum=600))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Compatibility) == found


def test_no_finding_shows_a_default():
    old = Contract(name="m", inputs=(Field(name="token", type="string", default="hush"),), outputs=())
    new = with_contract(old, inputs=(Field(name="token", type="string", default="psst"),))
    assert not re.search("hush|psst", str(compare(old, new)))


@given(st.data())
def test_what_an_old_contract_takes_a_compatible_new_one_takes_too(data):
    """As records and as tensors, whatever a caller leaves out."""
    old, new = data.draw(edited_pairs())
    if compare(old, new).verdict is BREAKING:
        return
    body = msgspec.json.encode({"instances": data.draw(st.lists(records_of(old.inputs), min_size=1, max_size=3))})
    try:
        sent = RecordCodec(old).decode(body).inputs
        ContractCheck(old).check_inputs(dict(sent))
    except InvalidArgument:
        return
    RecordCodec(new).decode(body)
    left_out = data.draw(st.sets(st.sampled_from([f.name for f in old.inputs])))
    tensors = {f.name: sent[f.name] for f in old.inputs if f.is_required or f.name not in left_out}
    if tensors:
        assert ContractCheck(new).check_inputs(tensors) == len(sent[old.inputs[0].name])


@given(st.data())
def test_what_a_compatible_new_contract_gives_the_old_one_allowed(data):
    old, new = data.draw(edited_pairs())
    if compare(old, new).verdict is BREAKING:
        return
    fields = tuple(msgspec.structs.replace(f, default=msgspec.UNSET, labels=()) for f in new.outputs)
    record = data.draw(records_of(fields, is_whole=True))
    try:
        given = RecordCodec(Contract(name="m", inputs=fields, outputs=())).tensors([record])
        ContractCheck(new).check_outputs(given, 1)
    except (InvalidArgument, InvalidOutput):
        return
    for field in old.outputs:
        assert given[field.name].dtype == np.dtype(field.element.dtype)
    ContractCheck(old).check_outputs(given, 1)


@given(limited_pairs("int8"))
def test_a_limit_on_whole_numbers_breaks_exactly_when_a_number_is_lost(pair):
    old, new = pair
    taken, still = ({n for n in range(-128, 128) if is_good(field, n)} for field in pair)
    assert has_break(old, new, Side.INPUTS) == bool(taken - still)
    assert has_break(old, new, Side.OUTPUTS) == bool(still - taken)


@given(limited_pairs("string"), st.text("ABCDEad", max_size=4) | st.sampled_from(WORDS))
def test_a_limit_on_text_that_breaks_nobody_loses_no_text(pair, text):
    old, new = pair
    if is_good(old, text) and not is_good(new, text):
        assert has_break(old, new, Side.INPUTS)
    if is_good(new, text) and not is_good(old, text):
        assert has_break(old, new, Side.OUTPUTS)


def has_break(old: Field, new: Field, side: Side) -> bool:
    return any(f.change is BREAKING for f in field_findings(old, new, side))
