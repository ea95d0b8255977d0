"""Runs golden examples on a loaded model before any caller's request.

`runtime.versions.warmup` asks a version through everything that a request goes through, once in each gateway. This is for a process that has just
loaded a model: a replica that answers an example wrongly is never used, however often it is started again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from limen.contracts.errors import InvalidPackage, LimenError
from limen.contracts.inference import InferenceRequest
from limen.runtime.binding.binding import Binding
from limen.runtime.context import with_context
from limen.runtime.execution import run
from limen.runtime.predictor import LoadedModel

if TYPE_CHECKING:
    from limen.contracts.contract import Contract

_SHOWN: Final = 5


def ensure_right(contract: Contract, model: LoadedModel, binding: Binding, version: str) -> None:
    """Ask a model every example that says what is right. One that streams has no golden answers.

    Args:
        contract: what it promises.
        model: just loaded.
        binding: its tensors.
        version: what its context is told.

    Raises:
        InvalidPackage: naming the example and every difference, or what the model failed with.
    """
    golden = [(i, example) for i, example in enumerate(contract.examples) if example.outputs]
    if model.can_stream or not golden:
        return
    from limen.contracts.validation.comparison import differences
    from limen.contracts.validation.records import RecordCodec
    from limen.contracts.validation.tensors import ContractCheck

    check, records = ContractCheck(contract), RecordCodec(contract)
    for i, example in golden:
        label = example.name or f"examples[{i}]"
        try:
            request = InferenceRequest(contract.name, records.tensors([example.inputs]), version, rows=1, checked=check)
            parameters = with_context(request, version) if model.wants_context else {}
            outputs = run(model, binding, request.inputs, parameters, 1, contract.batching.max_rows)
            (answer,) = records.encode(check.check_outputs(outputs, 1))
        except LimenError as exc:
            raise no_answer(label, exc) from exc
        except Exception as exc:
            raise InvalidPackage(f"no right answer to {label}: the model failed") from exc
        if found := differences(example.outputs, answer, contract.tolerance, label):
            raise wrong_answer(found)


def no_answer(label: str, exc: LimenError) -> InvalidPackage:
    """Return the error of a model that does not answer an example."""
    return InvalidPackage(f"no right answer to {label}: {exc.message}", violations=exc.violations)


def wrong_answer(found: Sequence[str]) -> InvalidPackage:
    """Return the error of a model that answers an example otherwise; `found` has a line for each difference."""
    more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
    return InvalidPackage("the answer to an example differs from the recorded one: " + "; ".join(found[:_SHOWN]) + more)
