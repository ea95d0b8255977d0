"""Code shared by the XGBoost and LightGBM backends: tensors and prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from limen.contracts.inference import Parameter
from limen.contracts.tensors import BY_NAME, Array, TensorSpec
from limen.runtime.backends.artifact import OneAnswer, failed
from limen.runtime.backends.categories import Table
from limen.runtime.predictor import Signature

PREDICTION = "prediction"
PROBABILITIES = "probabilities"
"""One for each class, in the order of the classes, also of two of them; the booster itself gives that of the second only."""


class BoosterModel(OneAnswer):
    """One booster."""

    def __init__(
        self,
        library: str,
        run: Callable[[Array], Array],
        matrix: TensorSpec,
        table: Table | None,
        *,
        is_binary: bool,
        wanted: Sequence[str],
    ) -> None:
        """Ask the booster for one row of zeros, to learn the shape of its answer.

        Args:
            library: whose booster it is.
            run: returns the booster's answer to a matrix.
            matrix: the matrix.
            table: makes the matrix of single features; None when callers send it whole.
            is_binary: the answer is the probability of the second of two classes.
            wanted: the outputs that are used.
        """
        self._library = library
        self._run = run
        self._width = matrix.shape[1]
        self._table = table
        answer = run(np.zeros((1, self._width), BY_NAME[matrix.type].dtype))
        outputs = [TensorSpec(PREDICTION, matrix.type, (-1, *answer.shape[1:]))]
        if PROBABILITIES in wanted and (is_binary or answer.ndim == 2):
            outputs.append(TensorSpec(PROBABILITIES, matrix.type, (-1, 2 if is_binary else answer.shape[1])))
        self._wanted = [t.name for t in outputs if t.name in wanted]
        self.signature = Signature((matrix,) if table is None else table.specs, tuple(outputs))

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Predict on the rows of `X`, or of the features."""
        try:
            rows = inputs["X"] if self._table is None else self._table.matrix(inputs)
            # XGBoost looks at the width only together with names and types; LightGBM prints what it finds.
            if rows.ndim != 2 or rows.shape[1] != self._width:
                raise ValueError("X has another width than the model")
            answer = self._run(rows)
            return {name: answer if name == PREDICTION else _by_class(answer) for name in self._wanted}
        except Exception as exc:
            raise failed(self._library, exc) from exc


def _by_class(answer: Array) -> Array:
    return answer if answer.ndim == 2 else np.stack([1 - answer, answer], axis=1)
