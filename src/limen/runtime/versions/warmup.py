"""Warm-up: a version is READY only after it has answered its own examples correctly."""

from __future__ import annotations

import time
from collections.abc import Mapping

from limen.contracts.contract import Contract, Example, Json
from limen.contracts.errors import LimenError
from limen.contracts.inference import Deadline, InferenceRequest, Outcome
from limen.contracts.openapi.examples import example_record
from limen.contracts.validation.comparison import differences
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.runtime.golden import no_answer, wrong_answer
from limen.runtime.predictor import Predictor

MADE_UP = "a record made from the contract"
"""What an example is called that nobody gave."""
WARM_UP_TIMEOUT_S = 120.0
"""One example may take this long; the first run of a model pays for its lazy set-up."""

SETTLING_RUNS = 16
SETTLING_S = 0.2
"""After the examples the model runs on for a moment: lazy set-up settles and the placement learns what a row costs."""


async def warm_up(
    contract: Contract, check: ContractCheck, records: RecordCodec, predictor: Predictor, version: str
) -> float:
    """Answer every example, compare it with its golden outputs, and return the seconds of the slowest answer.

    A package without examples answers one made from its contract: only the form of that answer can be judged.

    Raises:
        InvalidPackage: naming the example and every difference, or what the model failed with.
    """
    examples = contract.examples or (Example(inputs=example_record(contract)),)
    slowest_s = 0.0
    for i, example in enumerate(examples):
        begun = time.monotonic()
        label = example.name or (f"examples[{i}]" if contract.examples else MADE_UP)
        try:
            answer = await answer_example(contract, check, records, predictor, example, version)
        except LimenError as exc:
            raise no_answer(label, exc) from exc
        slowest_s = max(slowest_s, time.monotonic() - begun)
        if found := differences(example.outputs, answer, contract.tolerance, label):
            raise wrong_answer(found)
    end = time.monotonic() + SETTLING_S
    settling = InferenceRequest(contract.name, records.tensors([examples[0].inputs]), version, rows=1, checked=check)
    for _ in range(SETTLING_RUNS):
        if time.monotonic() > end:
            break
        await outcome_of(predictor, settling)
    return slowest_s


async def answer_example(
    contract: Contract,
    check: ContractCheck,
    records: RecordCodec,
    predictor: Predictor,
    example: Example,
    version: str,
) -> Mapping[str, Json]:
    """Return the model's answer to one example as a record, checked against the contract's outputs."""
    inputs = records.tensors([example.inputs])
    request = InferenceRequest(contract.name, inputs, version, rows=1, checked=check)
    outcome = await outcome_of(predictor, request)
    if isinstance(outcome, LimenError):
        raise outcome
    return records.encode(check.check_outputs(outcome.outputs, 1))[0]


async def outcome_of(predictor: Predictor, request: InferenceRequest) -> Outcome:
    """Return what a predictor makes of a request, the quick way where there is one, as for a caller."""
    deadline = Deadline.after(WARM_UP_TIMEOUT_S)
    try:
        return predictor.predict_now(request, deadline) or await predictor.predict(request, deadline)
    except LimenError as exc:
        return exc
