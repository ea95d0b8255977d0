"""Golden answers: what is written down of a model's answers, and what is not."""

import json

import pytest

from limen.authoring.golden import record, unable
from limen.contracts.errors import InvalidPackage
from limen.contracts.trial import Answer, Loaded, Probed
from limen.packaging.manifest.decoder import read_manifest
from tests.services.packages import write_code

FIELDS = """\
inputs:
  - {name: a, type: float64, nullable: true}
  - {name: b, type: float64, nullable: true}
outputs:
  - {name: y, type: float64}
  - {name: z, type: float64}
"""


def package(folder, examples=""):
    return write_code(folder / "model", FIELDS + examples, "class Model:\n    def predict(self, inputs): ...\n")


def asker(*answers, can_stream=False, asked=None):
    """Answer in turn; a text is a problem."""

    def ask(package, examples, *, trust_code):
        if asked is not None:
            asked.extend(examples)
        given = [Answer(problem=found) if isinstance(found, str) else Answer(found) for found in answers]
        return Probed(Loaded(0.1, can_stream, ()), tuple(given))

    return ask


def examples_of(folder):
    return [(example.name, example.inputs, example.outputs) for example in read_manifest(folder).contract.examples]


def test_examples_without_answers_get_them_and_the_others_keep_theirs(tmp_path):
    folder = package(tmp_path, "examples:\n  - {inputs: {a: 1}, outputs: {y: 5}}\n  - {name: two, inputs: {a: 2}}\n")
    asked = []
    done = record(folder, asker({"y": 1.5, "z": 2.0}, {"y": 1.5, "z": 2.0}, asked=asked), trust_code=True)
    assert asked == [{"a": 2}, {"a": 2}]
    assert (done.answered, done.kept, done.notes) == (1, 1, ())
    assert examples_of(folder) == [("", {"a": 1}, {"y": 5}), ("two", {"a": 2}, {"y": 1.5, "z": 2.0})]


def test_an_output_that_differs_each_time_is_left_out_and_said(tmp_path):
    folder = package(tmp_path, "examples: [{inputs: {a: 2}}]\n")
    done = record(folder, asker({"y": 1.0, "z": 0.3}, {"y": 1.0, "z": 0.4}), trust_code=True)
    assert examples_of(folder)[0][2] == {"y": 1.0}
    assert done.notes == ("z differs on each call and is not recorded",)


def test_secret_and_large_outputs_are_left_out(tmp_path):
    folder = package(tmp_path, "examples: [{inputs: {a: 2}}]\n")
    path = folder / "model.yaml"
    path.write_text(
        path.read_text().replace("{name: y, type: float64}", "{name: y, type: float64, sensitivity: secret}")
    )
    answer = {"y": 1.0, "z": [0.0] * 1001}
    done = record(folder, asker(answer, answer), trust_code=True)
    assert (done.answered, examples_of(folder)[0][2]) == (0, {})
    assert done.notes == (
        "y is secret and is not recorded",
        "z has more than 1000 values and is not recorded",
    )


def test_an_example_without_an_answer_is_said(tmp_path):
    folder = package(tmp_path, "examples: [{name: odd, inputs: {a: 2}}]\n")
    done = record(folder, asker("it broke", "it broke"), trust_code=True)
    assert (done.answered, done.failed, done.notes) == (0, 1, ("odd has no answer: it broke",))


def test_a_package_without_examples_gets_one_made_from_its_contract(tmp_path):
    folder = package(tmp_path)
    record(folder, asker({"y": 1.0, "z": 1.0}, {"y": 1.0, "z": 1.0}), trust_code=True)
    [(name, _, outputs)] = examples_of(folder)
    assert (name, outputs) == ("a record made from the contract", {"y": 1.0, "z": 1.0})


def test_examples_in_a_file_of_their_own_are_written_there(tmp_path):
    folder = package(tmp_path, "examples: golden.json\n")
    (folder / "golden.json").write_text(json.dumps([{"name": "one", "inputs": {"a": 1}}]))
    before = (folder / "model.yaml").read_text()
    record(folder, asker({"y": 1.0, "z": 2.0}, {"y": 1.0, "z": 2.0}), trust_code=True)
    assert (folder / "model.yaml").read_text() == before
    assert json.loads((folder / "golden.json").read_text())[0]["outputs"] == {"y": 1.0, "z": 2.0}


def test_a_manifest_that_cannot_be_edited_stays_as_it_is(tmp_path):
    folder = package(tmp_path, "examples: []\n")
    before = (folder / "model.yaml").read_text()
    with pytest.raises(InvalidPackage, match=r"move its examples to a separate file"):
        record(folder, asker({"y": 1.0, "z": 2.0}, {"y": 1.0, "z": 2.0}), trust_code=True)
    assert (folder / "model.yaml").read_text() == before


def test_a_model_that_streams_is_not_recorded(tmp_path):
    done = record(package(tmp_path), asker(can_stream=True), trust_code=True)
    assert done.notes == ("a model that streams has no golden answers",)


def test_the_inputs_that_a_model_cannot_do_without_are_found(tmp_path):
    folder = package(tmp_path, "examples: [{inputs: {a: 2, b: 3}}]\n")
    asked = []
    fine = {"y": 1.0, "z": 2.0}
    assert unable(folder, asker(fine, "NaN", fine, asked=asked), trust_code=True) == {"a"}
    assert asked == [{"a": 2, "b": 3}, {"a": None, "b": 3}, {"a": 2, "b": None}]
    # A model that answers nothing shows nothing.
    assert unable(folder, asker("broken", "NaN", "NaN"), trust_code=True) == frozenset()
