"""The table that every bulk test ends with: each model is right, refused by name, or wrong, and none may be wrong.

A module of the suite takes one family of models through Limen, compares each with the model called directly, and judges:

    table = Table("LightGBM")
    for name, model in models():
        with table.judge(name):
            answers = served(model)              # a LimenError here is a refusal
            same(answers, model.predict(rows))   # an AssertionError, or any other exception, is wrong
    table.conclude(right=40)

`right` is the floor: a product that refuses everything is not right either. The table is printed with `pytest -s`, and when it fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from limen.contracts.errors import LimenError

LISTED = 40
"""Wrong models that a failing test lists in full."""
MIN_WORDS = 4
"""A refusal of fewer words explains nothing."""


class Verdict(StrEnum):
    """What became of one model."""

    RIGHT = "right"
    REFUSED = "refused by name"
    WRONG = "wrong"


class Judged(NamedTuple):
    """One model of the table."""

    name: str
    verdict: Verdict
    text: str = ""


class Table:
    """Collects verdicts about one family of models."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.rows: list[Judged] = []

    def right(self, name: str) -> None:
        """Count a model whose answers are those of the model called directly."""
        self.rows.append(Judged(name, Verdict.RIGHT))

    def refused(self, name: str, text: str) -> None:
        """Count a model that Limen refuses; a refusal that does not say why is wrong."""
        verdict = Verdict.REFUSED if len(text.split()) >= MIN_WORDS else Verdict.WRONG
        self.rows.append(Judged(name, verdict, text))

    def wrong(self, name: str, text: str) -> None:
        """Count a model with another answer, or with none and no reason."""
        self.rows.append(Judged(name, Verdict.WRONG, text))

    @contextmanager
    def judge(self, name: str) -> Iterator[None]:
        """Judge what the block does with one model; the loop goes on whatever it raises."""
        try:
            yield
        except LimenError as exc:
            self.refused(name, "; ".join([exc.message, *map(str, exc.violations)]))
        except Exception as exc:  # noqa: BLE001 - whatever else happens to a model is wrong
            self.wrong(name, f"{type(exc).__name__}: {exc}")
        else:
            self.right(name)

    def count(self, verdict: Verdict) -> int:
        """Return how many models have a verdict."""
        return sum(row.verdict is verdict for row in self.rows)

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(verdict)} {verdict}" for verdict in Verdict)
        lines = [f"{self.family}: {len(self.rows)} models: {counts}"]
        reasons = Counter(row.text for row in self.rows if row.verdict is Verdict.REFUSED)
        lines += [f"  refused {count:4}  {text[:160]}" for text, count in reasons.most_common()]
        wrong = [row for row in self.rows if row.verdict is Verdict.WRONG]
        lines += [f"  WRONG {row.name}: {row.text[:400]}" for row in wrong[:LISTED]]
        return "\n".join(lines)

    def conclude(self, *, right: int) -> None:
        """Print the table and fail if a model is wrong, or fewer than `right` are right."""
        print(f"\n{self}")
        assert self.count(Verdict.WRONG) == 0, str(self)
        assert self.count(Verdict.RIGHT) >= right, str(self)


def same(
    answers: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    *,
    relative: float = 1e-4,
    absolute: float = 1e-5,
) -> None:
    """Assert that answers hold every expected tensor with the same shape and values; missing numbers agree with each other."""
    for name, wanted in expected.items():
        assert name in answers, f"there is no output {name}"
        got, want = np.asarray(answers[name]), np.asarray(wanted)
        assert got.shape == want.shape, f"{name} has the shape {got.shape}, expected {want.shape}"
        if "f" in want.dtype.kind + got.dtype.kind:
            np.testing.assert_allclose(
                got.astype(np.float64), want.astype(np.float64), rtol=relative, atol=absolute, err_msg=name
            )
        else:
            np.testing.assert_array_equal(got, want, err_msg=name)
