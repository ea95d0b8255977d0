"""Compares a model's answers with golden examples, within the declared tolerance.

Used twice when a package is published: its own examples are its promise, and the examples of the version before it show whether
callers will get other answers from now on. Pure; the answers come from `publishing.probe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from limen.contracts.catalogue import Verdict
from limen.contracts.contract import Contract, Example, Sensitivity
from limen.contracts.trial import Answer
from limen.contracts.validation.comparison import differences

MAX_DIFFERENCES: Final = 100
"""How many differences are kept of one comparison."""
_GUARDED: Final = frozenset({Sensitivity.PERSONAL, Sensitivity.SECRET})


class Replay(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a replay of golden examples found."""

    verdict: Verdict
    """INCONCLUSIVE when nothing could be compared: no example has an answer, or the model streams."""
    examples: int = 0
    """Examples that were replayed."""
    compared: int = 0
    """Of these, how many had an answer to compare with."""
    differences: tuple[str, ...] = ()
    """One line for each output that differs or example that was not answered; values of personal and secret outputs stay out."""


def compare_answers(contract: Contract, examples: Sequence[Example], answers: Sequence[Answer]) -> Replay:
    """Return how answers differ from the golden ones.

    Args:
        contract: the one that the examples belong to: its tolerance counts, and what it calls personal or secret.
        examples: what was asked.
        answers: one for each example; none of a model that streams.
    """
    if not answers:
        return Replay(Verdict.INCONCLUSIVE)
    found = [
        line
        for i, (example, answer) in enumerate(zip(examples, answers, strict=True))
        for line in _one(contract, example, example.name or f"examples[{i}]", answer)
    ]
    compared = sum(bool(example.outputs) for example in examples)
    agreed = Verdict.PASS if compared else Verdict.INCONCLUSIVE
    verdict = Verdict.FAIL if found else agreed
    return Replay(verdict, len(answers), compared, tuple(found[:MAX_DIFFERENCES]))


def _one(contract: Contract, example: Example, label: str, answer: Answer) -> list[str]:
    if answer.outputs is None:
        return [f"{label}: no answer: {answer.problem}"]
    guarded = {field.name for field in contract.outputs if field.sensitivity in _GUARDED}
    found: list[str] = []
    for name, want in example.outputs.items():
        lines = differences({name: want}, answer.outputs, contract.tolerance, label)
        found += [f"{label}.{name}: differs from the expected value"] if lines and name in guarded else lines
    return found
