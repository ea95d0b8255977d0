"""Golden answers: records what a model currently answers to its examples, as the expected answers of later runs.

The model is asked in a process that is thrown away, each example twice: what differs between the two is no answer to hold it to.
They are the model's own answers and not the truth; examples that have answers keep them. Called by `limen check --record`,
`limen init` and `limen import`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from limen.contracts.contract import Contract, Example, Json, Sensitivity
from limen.contracts.errors import InvalidPackage
from limen.contracts.openapi.examples import example_record
from limen.contracts.trial import Answer, Probed
from limen.contracts.validation.comparison import differences
from limen.packaging.archive.package import Package
from limen.packaging.manifest.decoder import read_manifest
from limen.packaging.manifest.edit import file_of_examples, with_answers, with_examples
from limen.packaging.manifest.values import MANIFEST_NAME
from limen.runtime.versions.warmup import MADE_UP

MAX_VALUES: Final = 1000
"""A larger output is not written down."""


class Ask(Protocol):
    """Loads a package in a process that is thrown away and returns its answers, as `publishing.probe.Probe.run` does."""

    def __call__(self, package: Package, examples: Sequence[Mapping[str, Json]], *, trust_code: bool) -> Probed:
        """Do it, or raise `InvalidPackage` for what cannot be loaded."""
        ...


class Recorded(msgspec.Struct, frozen=True):
    """What was written down."""

    answered: int
    """Examples that got an answer."""
    kept: int
    """Examples that had one."""
    failed: int = 0
    """Examples that the model does not answer."""
    notes: tuple[str, ...] = ()
    """What was not written down, and why."""


def unable(folder: Path, ask: Ask, *, trust_code: bool) -> frozenset[str]:
    """Return the nullable inputs of a package without which its model gives no answer.

    Args:
        folder: a package folder that loads.
        ask: asks its model.
        trust_code: whether code that the package brings may run.

    Raises:
        InvalidPackage: as `record`.
    """
    manifest = read_manifest(folder)
    contract = manifest.contract
    whole = next((example.inputs for example in contract.examples if None not in example.inputs.values()), None)
    fields = [field.name for field in contract.inputs if field.nullable]
    if whole is None or not fields:
        return frozenset()
    asked = [whole, *(whole | {name: None} for name in fields)]
    first, *others = ask(Package(folder, manifest, "", folder), asked, trust_code=trust_code).answers or (Answer(),)
    if first.outputs is None:
        return frozenset()
    return frozenset(name for name, answer in zip(fields, others, strict=True) if answer.outputs is None)


def record(folder: Path, ask: Ask, *, trust_code: bool, examples: Sequence[Example] = ()) -> Recorded:
    """Give the examples of a package folder the answers that its model gives now.

    Args:
        folder: a package folder that loads.
        ask: asks its model.
        trust_code: whether code that the package brings may run.
        examples: what is asked when the package has no examples; a record made from the contract when none are given.

    Raises:
        InvalidPackage: the folder is no package, its model cannot be loaded, or model.yaml cannot be edited.
    """
    manifest = read_manifest(folder)
    contract = manifest.contract
    own = contract.examples
    wanted = own or tuple(examples) or (Example(name=MADE_UP, inputs=example_record(contract)),)
    places = [i for i, example in enumerate(wanted) if not example.outputs]
    kept = len(wanted) - len(places)
    if not places:
        return Recorded(0, kept)
    inputs = [wanted[i].inputs for i in places]
    probed = ask(Package(folder, manifest, "", folder), [*inputs, *inputs], trust_code=trust_code)
    if probed.loaded.can_stream:
        return Recorded(0, kept, notes=("a model that streams has no golden answers",))
    notes: list[str] = []
    answers: dict[int, dict[str, Json]] = {}
    pairs = zip(probed.answers[: len(places)], probed.answers[len(places) :], strict=True)
    for i, (first, second) in zip(places, pairs, strict=True):
        found = _lasting(contract, wanted[i].name or f"examples[{i}]", first, second, notes)
        if found:
            answers[i] = found
    if answers:
        answered = tuple(
            msgspec.structs.replace(example, outputs=answers.get(i, example.outputs))
            for i, example in enumerate(wanted)
        )
        _write(folder, contract, answered, answers if own else None)
    failed = sum(first.outputs is None for first in probed.answers[: len(places)])
    return Recorded(len(answers), kept, failed, tuple(dict.fromkeys(notes)))


def _lasting(contract: Contract, label: str, first: Answer, second: Answer, notes: list[str]) -> dict[str, Json]:
    """Return the outputs that a model can be held to."""
    if first.outputs is None or second.outputs is None:
        notes.append(f"{label} has no answer: {first.problem or second.problem}")
        return {}
    kept = {}
    for field in contract.outputs:
        if field.name not in first.outputs:
            continue
        value = first.outputs[field.name]
        if field.sensitivity is Sensitivity.SECRET:
            notes.append(f"{field.name} is secret and is not recorded")
        elif _size(value) > MAX_VALUES:
            notes.append(f"{field.name} has more than {MAX_VALUES} values and is not recorded")
        elif differences({field.name: value}, second.outputs, contract.tolerance):
            notes.append(f"{field.name} differs on each call and is not recorded")
        else:
            kept[field.name] = value
    return kept


def _size(value: Json) -> int:
    return sum(map(_size, value)) if isinstance(value, list) else 1


def _write(
    folder: Path, contract: Contract, answered: Sequence[Example], own: Mapping[int, Mapping[str, Json]] | None
) -> None:
    """Write the answers where the examples are: in model.yaml, or in a file of their own."""
    path = folder / MANIFEST_NAME
    before = path.read_bytes()
    text = before.decode("utf-8-sig")
    if file := file_of_examples(text):
        path = folder / file
        before = path.read_bytes()
        after = msgspec.json.format(msgspec.json.encode(list(answered)), indent=1)
    else:
        after = (with_examples(text, answered) if own is None else with_answers(text, own)).encode()
    path.write_bytes(after)
    try:
        read = read_manifest(folder).contract
    except InvalidPackage:
        read = None
    if read is None or not _same(read.examples, answered) or read.inputs != contract.inputs:
        path.write_bytes(before)
        raise InvalidPackage(
            f"{path.name} cannot be edited in its current form; move its examples to a separate "
            "file, `examples: examples.json`, and record again"
        )


def _same(read: Sequence[Example], wanted: Sequence[Example]) -> bool:
    """Return whether two lists of examples are the same, NaN and the way that numbers are written aside."""
    return len(read) == len(wanted) and all(
        a.name == b.name and _equal(a.inputs, b.inputs) and _equal(a.outputs, b.outputs)
        for a, b in zip(read, wanted, strict=True)
    )


def _equal(a: Json, b: Json) -> bool:
    return msgspec.json.encode(a, order="sorted") == msgspec.json.encode(b, order="sorted")
