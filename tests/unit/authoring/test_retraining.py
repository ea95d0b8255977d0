"""A model that was trained again takes over the contract that callers know, as far as the model goes along."""

import pytest

from limen.authoring.retraining import Known, adopt
from limen.contracts.contract import Contract, Example, Field, Slo
from limen.packaging.manifest.decoder import read_manifest
from tests.services.packages import write_score

KNOWN = Contract(
    name="score",
    title="Score",
    owner="Risk",
    inputs=(
        Field(name="Age", type="int32", unit="years", minimum=0, number=1),
        Field(name="income", type="float32", description="Income: a year", nullable=True, number=2),
        Field(name="home", type="string", enum=("own", "rent"), number=3),
    ),
    outputs=(Field(name="Score", type="float32", minimum=0, number=1),),
    slo=Slo(p95_ms=20),
    examples=(Example(name="first", inputs={"Age": 30, "income": 1.5, "home": "own"}, outputs={"Score": 7}),),
)
NEW = """\
name: score
backend: onnx
artifact: model.onnx
inputs:
  - {name: income, type: float64}
  - {name: age, type: float64}  # observed 18 to 79
outputs:
  - {name: y, type: float32}
  - {name: score, type: float64}
bind:
  inputs: {x: [income, age]}
"""


@pytest.fixture
def taken(tmp_path):
    def take(text: str = NEW, known: Contract = KNOWN):
        folder = write_score(tmp_path / "score")
        (folder / "model.yaml").write_text(text)
        return adopt(folder, Known("score@champion", known)), read_manifest(folder)

    return take


def test_names_order_limits_and_numbers_are_those_that_callers_know(taken):
    _, manifest = taken()
    contract = manifest.contract
    age, income = contract.inputs
    assert (age.name, age.type, age.unit, age.minimum, age.number) == ("Age", "int32", "years", 0, 1)
    assert (income.name, income.type, income.description, income.nullable) == (
        "income",
        "float32",
        "Income: a year",
        True,
    )
    assert (contract.title, contract.owner, contract.slo.p95_ms) == ("Score", "Risk", 20)
    assert [(field.name, field.number) for field in contract.outputs] == [("Score", 1), ("y", 2)]
    assert manifest.bind.inputs == {"x": ("income", "Age")}
    assert manifest.bind.outputs["Score"].tensor == "score"


def test_what_callers_will_notice_is_said(taken):
    noticed, _ = taken()
    assert [text for text in noticed if text.startswith("inputs.home")] == [
        "inputs.home: It was removed; callers that send it are refused."
    ]
    assert not [text for text in noticed if text.startswith("examples")]


def test_the_examples_are_the_old_ones_without_the_answers_of_the_old_model(taken):
    _, manifest = taken()
    assert manifest.contract.examples == (Example(name="first", inputs={"Age": 30, "income": 1.5}),)


def test_a_new_input_gets_a_number_of_its_own_and_is_marked(taken, tmp_path):
    noticed, manifest = taken(NEW.replace("outputs:", "  - {name: region, type: string}\noutputs:"))
    assert [(field.name, field.number) for field in manifest.contract.inputs] == [
        ("Age", 1),
        ("income", 2),
        ("region", 4),
    ]
    assert "# new: callers do not send it yet" in (tmp_path / "score" / "model.yaml").read_text()
    assert any(text.startswith("inputs.region: ") for text in noticed)
    # The old examples do not have it.
    assert manifest.contract.examples == ()


def test_the_model_wins_where_a_type_or_a_value_does_not_fit(taken):
    strings = "  - {name: age, type: string}\n  - {name: home, type: string, enum: [own, lease]}"
    text = NEW.replace("  - {name: age, type: float64}", strings).partition("bind:")[0]
    noticed, manifest = taken(text)
    age, _, home = manifest.contract.inputs
    assert (age.type, age.minimum, age.unit) == ("string", None, "years")
    assert home.enum == ("own",)
    assert any(text.startswith("inputs.Age") for text in noticed)
    assert any(text.startswith("inputs.home") for text in noticed)
    # The old examples do not fit any more.
    assert manifest.contract.examples == ()


def test_the_only_output_keeps_the_name_that_its_owner_gave_it(taken):
    text = NEW.replace("  - {name: y, type: float32}\n", "").replace(
        "name: score, type: float64", "name: prediction, type: float64"
    )
    noticed, manifest = taken(text)
    [output] = manifest.contract.outputs
    assert (output.name, output.minimum) == ("Score", 0)
    assert manifest.bind.outputs["Score"].tensor == "prediction"
    assert not [line for line in noticed if line.startswith("outputs")]
