"""The table itself: a suite that cannot fail proves nothing."""

import numpy as np
import pytest

from limen.contracts.errors import InvalidPackage
from tests.bulk.verdicts import Table, Verdict, same


def table(**verdicts: Exception | None) -> Table:
    made = Table("models")
    for name, raised in verdicts.items():
        with made.judge(name):
            if raised is not None:
                raise raised
    return made


def test_a_table_of_right_and_refused_models_passes():
    made = table(a=None, b=InvalidPackage("artifact: input 'x' is a sequence of tensors"))
    made.conclude(right=1)
    assert [row.verdict for row in made.rows] == [Verdict.RIGHT, Verdict.REFUSED]


@pytest.mark.parametrize("raised", [AssertionError("4 is not 5"), KeyError("x"), InvalidPackage("no")])
def test_a_wrong_answer_a_crash_and_a_refusal_without_a_reason_are_wrong(raised: Exception):
    with pytest.raises(AssertionError, match="1 wrong"):
        table(a=None, b=raised).conclude(right=1)


def test_refusing_everything_is_not_right():
    with pytest.raises(AssertionError, match="0 right"):
        table(a=InvalidPackage("this model cannot be served here")).conclude(right=1)


def test_shapes_count_and_missing_numbers_agree_with_each_other():
    same({"y": np.array([1.0, np.nan])}, {"y": np.array([1.0 + 1e-7, np.nan])})
    with pytest.raises(AssertionError, match="shape"):
        same({"y": np.array([[1.0]])}, {"y": np.array([1.0])})
    with pytest.raises(AssertionError):
        same({"y": np.array([1.0])}, {"y": np.array([np.nan])})
    with pytest.raises(AssertionError, match="no output"):
        same({}, {"y": np.array([1.0])})
