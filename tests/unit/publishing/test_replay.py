"""Golden answers are compared within the tolerance of the contract they belong to."""

import pytest

from limen.contracts.catalogue import Verdict
from limen.contracts.contract import Contract, Example, Field, Sensitivity, Tolerance
from limen.contracts.trial import Answer
from limen.publishing.replay import MAX_DIFFERENCES, compare_answers


def contract(**more) -> Contract:
    return Contract(
        name="score",
        inputs=(Field(name="x", type="float32"),),
        outputs=(
            Field(name="y", type="float32"),
            Field(name="who", type="string", sensitivity=Sensitivity.PERSONAL),
        ),
        **more,
    )


GOLDEN = Example(name="golden", inputs={"x": 1}, outputs={"y": 1.0})
UNANSWERED = Example(inputs={"x": 2})


def test_equal_answers_pass():
    found = compare_answers(contract(), [GOLDEN, UNANSWERED], [Answer({"y": 1.00001}), Answer({"y": 5.0})])
    assert (found.verdict, found.examples, found.compared, found.differences) == (Verdict.PASS, 2, 1, ())


@pytest.mark.parametrize(("tolerance", "verdict"), [(0.05, Verdict.FAIL), (0.2, Verdict.PASS)])
def test_a_difference_counts_beyond_the_declared_tolerance(tolerance, verdict):
    judged = contract(tolerance=Tolerance(absolute=tolerance, relative=0))
    found = compare_answers(judged, [GOLDEN], [Answer({"y": 1.1})])
    assert found.verdict is verdict
    assert len(found.differences) == (verdict is Verdict.FAIL)


def test_each_difference_is_a_line_that_names_the_example_and_the_output():
    examples = [GOLDEN, Example(inputs={"x": 2}, outputs={"y": 2.0})]
    found = compare_answers(contract(), examples, [Answer({"y": 3.0}), Answer({})])
    assert found.differences == ("golden.y: expected 1.0, got 3.0 (difference 2)", "examples[1].y: is missing")


def test_an_example_that_is_not_answered_fails_also_without_an_answer_to_compare():
    found = compare_answers(contract(), [UNANSWERED], [Answer(problem="x: is required")])
    assert found.verdict is Verdict.FAIL
    assert found.differences == ("examples[0]: no answer: x: is required",)


def test_values_of_personal_outputs_stay_out():
    example = Example(name="a", inputs={"x": 1}, outputs={"who": "Ada"})
    found = compare_answers(contract(), [example], [Answer({"who": "Grace"})])
    assert found.differences == ("a.who: differs from the expected value",)


@pytest.mark.parametrize(
    ("examples", "answers"),
    [((), ()), ((GOLDEN,), ()), ((UNANSWERED,), (Answer({"y": 1.0}),))],
    ids=["no examples", "a model that streams", "no golden answer"],
)
def test_nothing_to_compare_is_inconclusive(examples, answers):
    assert compare_answers(contract(), examples, answers).verdict is Verdict.INCONCLUSIVE


def test_the_list_of_differences_is_bounded():
    found = compare_answers(contract(), [GOLDEN] * 500, [Answer({"y": 9.0})] * 500)
    assert (len(found.differences), found.compared) == (MAX_DIFFERENCES, 500)
