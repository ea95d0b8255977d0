"""Whose turn it is to act on an error."""

import pytest

from limen.contracts import errors
from limen.contracts.errors import ErrorCode, LimenError
from limen.contracts.outcomes import CLASSES, OutcomeClass, outcome_of

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LimenError)]


def test_every_code_has_a_class():
    assert set(CLASSES) == set(ErrorCode)


def test_every_class_is_that_of_some_error():
    assert {outcome_of(kind("")) for kind in KINDS} == set(OutcomeClass)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (errors.ModelFailed, OutcomeClass.MODEL),
        (errors.InvalidPackage, OutcomeClass.MODEL),
        (errors.InvalidOutput, OutcomeClass.INVALID_OUTPUT),
        (errors.Internal, OutcomeClass.PLATFORM),
        (errors.Incompatible, OutcomeClass.CALLER),
        (errors.Refused, OutcomeClass.CALLER),
    ],
)
def test_errors_that_share_a_code_are_told_apart(kind, expected):
    assert outcome_of(kind("")) is expected
