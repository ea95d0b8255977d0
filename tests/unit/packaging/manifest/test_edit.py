"""Manifests that people wrote are edited in place: what was added decodes, and everything else is still there."""

import pytest
import yaml

from limen.contracts.contract import Example
from limen.packaging.manifest.edit import file_of_examples, with_answers, with_examples, without_answers

HEAD = "# mine\nname: score   # the name\n"
ANSWERS = {0: {"y": 1.5, "label": "no: way"}}


@pytest.mark.parametrize(
    "examples",
    [
        "examples:\n  - name: first\n    inputs:\n      a: 1\n      b: [1, 2]  # two\n\n# the end\n",
        "examples:\n- inputs: {a: 1}   # here\nslo: {p95_ms: 3}\n",
        "examples:\n  - {inputs: {a: 1}, name: first}\n",
        "examples: [{inputs: {a: 1},}]\n",
        "examples: [\n  {inputs: {a: 1}  # why\n  },\n]\n",
        "examples:\n  - inputs: {a: 1}",
        "examples:\n  -\n    inputs:\n      text: |\n        one\n        two\n    name: x\nowner: me\n",
        "examples:\n  - name: x\n    inputs:\n      text: |\n        one\n        two\nowner: me\n",
        "examples:\n  - name: x\n    inputs:\n      a: null\n      b:\n",
        "examples:\n  - name: x\n    inputs:\n      rows:\n        - 1\n        - 2\nowner: me\n",
    ],
)
def test_an_answer_is_added_in_the_style_of_the_example(examples):
    before = HEAD + examples
    after = with_answers(before, ANSWERS)
    wanted = yaml.safe_load(before)
    wanted["examples"][0]["outputs"] = ANSWERS[0]
    assert yaml.safe_load(after) == wanted
    assert all(line in after for line in before.splitlines() if line.strip().startswith("#") or "#" in line)
    assert [line for line in before.splitlines() if "#" in line] == [line for line in after.splitlines() if "#" in line]


def test_only_the_examples_that_are_named_change():
    before = "examples:\n  - {inputs: {a: 1}}\n  - inputs: {a: 2}\n    outputs: {y: 2}\n  - inputs: {a: 3}\n"
    after = with_answers(before, {0: {"y": 1}, 2: {"y": 3}})
    assert [example["outputs"] for example in yaml.safe_load(after)["examples"]] == [{"y": 1}, {"y": 2}, {"y": 3}]


def test_examples_are_added_at_the_end():
    after = with_examples(HEAD, [Example(name="row 1: a", inputs={"a": None, "t": "no"}, outputs={"y": 0.1})])
    assert after.startswith(HEAD)
    assert yaml.safe_load(after)["examples"] == [
        {"name": "row 1: a", "inputs": {"a": None, "t": "no"}, "outputs": {"y": 0.1}}
    ]


def test_a_file_of_examples_is_found():
    assert file_of_examples("examples: golden.json\n") == "golden.json"
    assert file_of_examples("examples: []\n") == file_of_examples("name: a\n") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "examples:\n  - inputs: {a: 1}\n    outputs: {b: 2}\n  - inputs: {a: 2}\n# end\n",
            "examples:\n  - inputs: {a: 1}\n  - inputs: {a: 2}\n# end\n",
        ),
        (
            "examples:\n  - name: x\n    outputs:\n      b: [1, 2]\n      c: y\n    inputs:\n      a: 1\n",
            "examples:\n  - name: x\n    inputs:\n      a: 1\n",
        ),
        ("examples: [{inputs: {a: 1}, outputs: {b: 2}}]\n", "examples: [{inputs: {a: 1}}]\n"),
        ("examples: examples.json\n", "examples: examples.json\n"),
        ("name: a\n", "name: a\n"),
        ("examples:\n  - inputs: {a: 1}\n    outputs: {b: 2}", "examples:\n  - inputs: {a: 1}\n"),
    ],
)
def test_answers_are_taken_out_and_nothing_else(text: str, expected: str):
    assert without_answers(text) == expected
