"""Decisions: what a file may hold, what it says of itself, and what its answers may be."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidOutput, InvalidPackage, ModelFailed, Reason
from limen.packaging.manifest import Manifest
from limen.packaging.sniff import sniff
from limen.runtime.backends import backend
from limen.runtime.backends.jdm_file import MAX_BYTES, MAX_EXPRESSION, read_decision
from tests.conformance.backends.conftest import RULES


def decision(**content) -> dict:
    """Return the decision of the conformance suite with some of its table changed."""
    found = copy.deepcopy(RULES)
    found["nodes"][1]["content"] |= content
    return found


SPECIES = (Field(name="species", type="string"),)


def loaded(folder: Path, found: dict, outputs=SPECIES, inputs=("petal_length",)):
    (folder / "model.json").write_text(json.dumps(found))
    fields = tuple(Field(name=name, type="float64") for name in inputs)
    manifest = Manifest(
        contract=Contract(name="m", inputs=fields, outputs=tuple(outputs)),
        backend="rules",
        artifact="model.json",
    )
    return backend("rules").load(folder, manifest)


def refusal(found: object) -> InvalidPackage:
    with pytest.raises(InvalidPackage) as caught:
        read_decision(json.dumps(found).encode())
    return caught.value


def test_tables_and_expressions_say_what_they_take_and_give():
    found = decision()
    node = {
        "id": "e",
        "type": "expressionNode",
        "name": "e",
        "content": {"expressions": [{"key": "fee", "value": "1"}]},
    }
    found["nodes"].append(node)
    read = read_decision(json.dumps(found).encode())
    assert read.inputs == {"petal.length": "float64"}
    assert read.outputs == {"species": "string", "chance": "float64", "fee": "float64"}
    assert read.is_complete
    assert not read_decision(json.dumps(decision(passThrough=True)).encode()).is_complete


@pytest.mark.parametrize(
    ("kind", "text"),
    [("functionNode", "JavaScript"), ("customNode", "code of the host"), ("decisionNode", "another file")],
)
def test_b96_nodes_that_run_code_or_load_files_are_refused(kind, text):
    found = decision()
    found["nodes"][1] = {"id": "f", "type": kind, "name": "f", "content": {"source": "while (true) {}"}}
    error = refusal(found)
    assert error.reason is Reason.UNSAFE_FORMAT
    assert text in error.message


def test_what_is_looked_at_is_what_the_engine_reads(tmp_path):
    """A repeated key could show one node to us and another to the engine."""
    text = json.dumps(decision()).replace(
        '"type": "decisionTableNode"', '"type": "functionNode", "type": "decisionTableNode"'
    )
    assert "functionNode" not in read_decision(text.encode()).text


@pytest.mark.parametrize(
    "found", [[], {}, {"nodes": {}}, {"nodes": [1]}, {"nodes": [{"type": "other"}]}, {"nodes": [{}]}]
)
def test_what_is_no_decision_is_refused(found):
    assert refusal(found).reason is Reason.INVALID_PACKAGE


def test_what_is_too_large_is_refused():
    assert "longer than" in refusal(decision(inputs=[{"id": "l", "field": "x" * (MAX_EXPRESSION + 1)}])).message
    with pytest.raises(InvalidPackage, match="larger than"):
        read_decision(b" " * (MAX_BYTES + 1))


def test_a_decision_is_known_by_its_content_whatever_the_order_of_its_keys(tmp_path):
    file = tmp_path / "any.name"
    file.write_text(json.dumps(dict(reversed(decision().items()))))
    assert sniff(file) == "jdm"
    file.write_text(json.dumps({"nodes": [], "edges": []}))
    assert sniff(file) == "json"


def rules(*cells: str) -> list[dict]:
    return [{"_id": str(i), "l": "", "s": cell, "c": "1"} for i, cell in enumerate(cells)]


@pytest.mark.parametrize(
    ("type_name", "cell", "expected"),
    [
        ("string", '"a"', "a"),
        ("int64", "3", 3),
        ("int64", "1.5 * 2", 3),
        ("float32", "0.5", 0.5),
        ("bool", "true", True),
    ],
)
def test_values_come_in_the_contracts_type(tmp_path, type_name, cell, expected):
    model = loaded(tmp_path, decision(rules=rules(cell)), [Field(name="species", type=type_name)], ("petal",))
    assert model.predict({"petal": np.array([1.0])}, {})["species"].tolist() == [expected]


@pytest.mark.parametrize(
    ("type_name", "cell"),
    [("string", "3"), ("int64", "1.5"), ("int8", "300"), ("bool", "1"), ("float32", "true"), ("int64", "null")],
)
def test_a_value_of_another_kind_is_an_invalid_output_that_names_the_field(tmp_path, type_name, cell):
    model = loaded(tmp_path, decision(rules=rules(cell)), [Field(name="species", type=type_name)], ("petal",))
    with pytest.raises(InvalidOutput, match="species"):
        model.predict({"petal": np.array([1.0])}, {})


def test_what_a_decision_leaves_out_is_missing(tmp_path):
    outputs = [Field(name="species", type="string", nullable=True), Field(name="chance", type="float64", nullable=True)]
    answer = loaded(tmp_path, decision(rules=[]), outputs, ("petal",)).predict({"petal": np.array([1.0])}, {})
    assert answer["species"].tolist() == [None]
    assert np.isnan(answer["chance"]).all()


def test_several_results_for_one_row_are_refused(tmp_path):
    model = loaded(tmp_path, decision(hitPolicy="collect"), inputs=("petal",))
    with pytest.raises(ModelFailed, match="one result for each row"):
        model.predict({"petal": np.array([1.0])}, {})


def test_only_single_values_are_taken_and_given(tmp_path):
    with pytest.raises(InvalidPackage, match="species has a shape or holds bytes"):
        loaded(tmp_path, decision(), [Field(name="species", type="string", shape=(2,))])
