"""Decisions: what a file may hold, what it says of itself, and what its answers may be."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from limen.authoring.scaffolding import create_package
from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidOutput, InvalidPackage, Reason, Refused
from limen.contracts.openapi.examples import example_record
from limen.contracts.validation.records import RecordCodec
from limen.packaging.archive.package import open_package
from limen.packaging.formats.sniff import sniff
from limen.packaging.manifest.values import Bind, Manifest, OutputBinding
from limen.runtime.backends import backend
from limen.runtime.backends.files.jdm import MAX_BYTES, MAX_EXPRESSION, read_decision
from limen.runtime.binding.binding import compile_binding
from limen.runtime.execution import load, run
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
    assert {name: said.type for name, said in read.about.inputs.items()} == {"petal.length": "float64"}
    outputs = {name: given.type for name, given in read.about.outputs.items()}
    assert outputs == {"species": "string", "chance": "float64", "fee": "float64"}
    assert read.about.is_complete
    assert not read_decision(json.dumps(decision(passThrough=True)).encode()).about.is_complete


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


WHOLE = (Field(name="reasons", type="json"),)


def test_a_decision_that_collects_gives_its_list_as_json(tmp_path):
    manifest = Manifest(
        contract=Contract(name="m", inputs=(Field(name="petal", type="float64"),), outputs=WHOLE),
        backend="rules",
        artifact="model.json",
        bind=Bind(outputs={"reasons": OutputBinding(tensor="$result")}),
    )
    (tmp_path / "model.json").write_text(json.dumps(decision(hitPolicy="collect", rules=rules('"a"', '"b"'))))
    model = backend("rules").load(tmp_path, manifest)
    answer = compile_binding(manifest, model.signature).unpack(model.predict({"petal": np.array([1.0])}, {}), 1)
    assert json.loads(answer["reasons"][0]) == [{"species": "a", "chance": 1}, {"species": "b", "chance": 1}]


def test_a_list_of_results_is_not_taken_for_one(tmp_path):
    manifest = Manifest(
        contract=Contract(name="m", inputs=(Field(name="petal", type="float64"),), outputs=SPECIES),
        backend="rules",
        artifact="model.json",
    )
    (tmp_path / "model.json").write_text(json.dumps(decision(hitPolicy="collect")))
    with pytest.raises(InvalidPackage, match=r"no output 'species'; it has \$result"):
        compile_binding(manifest, backend("rules").load(tmp_path, manifest).signature)


def switching(**schema) -> dict:
    """Return a decision whose switch alone reads `region`, with a schema of its inputs if there is one."""

    def lines(name: str, value: str) -> dict:
        return {
            "id": name,
            "type": "expressionNode",
            "name": name,
            "content": {"expressions": [{"id": "1", "key": "tax", "value": value}]},
        }

    statements = [{"id": "s1", "condition": "region == 'EU'"}, {"id": "s2", "condition": ""}]
    content = {"schema": json.dumps(schema)} if schema else {}
    nodes = [
        {"id": "i", "type": "inputNode", "name": "in", "content": content},
        {"id": "s", "type": "switchNode", "name": "s", "content": {"hitPolicy": "first", "statements": statements}},
        lines("a", "0.2"),
        lines("b", "0"),
    ]
    ways = [("i", "s", None), ("s", "a", "s1"), ("s", "b", "s2")]
    edges = [{"id": f"e{a}{b}", "sourceId": a, "targetId": b, "sourceHandle": way} for a, b, way in ways]
    return {"nodes": nodes, "edges": edges}


def test_a_contract_without_an_input_that_the_decision_reads_is_refused_by_name(tmp_path):
    tax = (Field(name="tax", type="float64"),)
    with pytest.raises(InvalidPackage, match="also reads region; add an input for each"):
        loaded(tmp_path, switching(), tax, inputs=("age",))
    model = loaded(tmp_path, switching(), tax, inputs=("age", "region"))
    assert [t.name for t in model.signature.inputs] == ["age", "region"]


SCHEMA = {
    "type": "object",
    "required": ["region", "person"],
    "properties": {
        "region": {"type": "string", "enum": ["EU", "US"]},
        "member": {"type": "boolean"},
        "person": {
            "type": "object",
            "required": ["age"],
            "properties": {"age": {"type": "integer"}, "tags": {"type": "array"}, "nick": {"type": "string"}},
        },
    },
}


def test_a_decisions_own_schema_comes_before_guesses():
    about = read_decision(json.dumps(switching(**SCHEMA)).encode()).about
    assert {name: (said.type, said.is_required, said.choices) for name, said in about.inputs.items()} == {
        "region": ("string", True, ("EU", "US")),
        "member": ("json", False, ()),
        "person.age": ("int64", True, ()),
        "person.tags": ("json", False, ()),
        "person.nick": ("string", False, ()),
    }


def test_a_package_that_is_made_of_a_decision_answers_a_record_made_of_its_contract(tmp_path):
    lines = {
        "n": "len(cart.items)",
        "names": "map(cart.items, #.name)",
        "age": "date('now') - date(born)",
        "sum": "a + b",
        "off": "keys(flags)",
        "is_known": "'x' in codes",
    }
    expressions = [{"id": key, "key": key, "value": value} for key, value in lines.items()]
    nodes = [
        {"id": "i", "type": "inputNode", "name": "in"},
        {"id": "e", "type": "expressionNode", "name": "e", "content": {"expressions": expressions}},
    ]
    (tmp_path / "d.json").write_text(
        json.dumps({"nodes": nodes, "edges": [{"id": "1", "sourceId": "i", "targetId": "e"}]})
    )
    create_package("d", tmp_path / "d.json", tmp_path / "d", None)
    manifest = open_package(tmp_path / "d", tmp_path / "home").manifest
    made = example_record(manifest.contract)
    assert (made["cart_items"], made["a"], made["codes"], made["flags"]) == ([], 1, [], {})
    model, binding = load(tmp_path / "d", manifest)
    answer = run(model, binding, RecordCodec(manifest.contract).tensors([made]), {}, 1, 1)
    assert (answer["sum"].tolist(), answer["n"].tolist(), answer["is_known"].tolist()) == (["2"], [0], [False])


def test_what_the_decisions_own_schema_refuses_is_the_callers_mistake(tmp_path):
    found = switching(type="object", properties={"region": {"type": "string", "maxLength": 2}})
    tax = (Field(name="tax", type="float64"),)
    (tmp_path / "model.json").write_text(json.dumps(found))
    inputs = (Field(name="region", type="string"),)
    contract = Contract(name="m", inputs=inputs, outputs=tax)
    model = backend("rules").load(tmp_path, Manifest(contract=contract, backend="rules", artifact="model.json"))
    assert model.predict({"region": np.array(["EU"], object)}, {})["tax"].tolist() == [0.2]
    with pytest.raises(Refused) as caught:
        model.predict({"region": np.array(["secret"], object)}, {})
    assert "secret" not in caught.value.message


def test_only_single_values_are_taken_and_given(tmp_path):
    with pytest.raises(InvalidPackage, match="species has a shape or holds bytes"):
        loaded(tmp_path, decision(), [Field(name="species", type="string", shape=(2,))])


@pytest.mark.parametrize(
    "text",
    [
        "+".join("a" * 4000),
        "(" * 4000 + "a" + ")" * 4000,
        " in ".join("a" * 2000),
        "a ? b : " * 1000 + "c",
        "`" + "${" * 4000 + "`",
        ".".join("a" * 4000),
        "[" * 9000,
        "not " * 2000,
    ],
)
def test_no_expression_takes_long_to_look_at(text):
    nodes = [
        {"id": "i", "type": "inputNode", "name": "in"},
        *(
            {
                "id": f"e{n}",
                "type": "expressionNode",
                "name": f"e{n}",
                "content": {"expressions": [{"key": "k", "value": text}]},
            }
            for n in range(20)
        ),
    ]
    edges = [{"id": f"{n}", "sourceId": "i", "targetId": f"e{n}"} for n in range(20)]
    read_decision(json.dumps({"nodes": nodes, "edges": edges}).encode())


def test_more_names_than_a_contract_may_have_are_refused():
    expressions = [{"key": f"k{i}", "value": "1"} for i in range(5000)]
    nodes = [{"id": "e", "type": "expressionNode", "name": "e", "content": {"expressions": expressions}}]
    assert "more than 4096 names" in refusal({"nodes": nodes, "edges": []}).message
