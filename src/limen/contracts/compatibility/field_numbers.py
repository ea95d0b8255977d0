"""Protobuf numbers that outlive a version: within one major a field keeps the number it was first given, for ever.

A caller's generated code finds a field by its number, so neither a changed order in `model.yaml` nor a field that comes and goes may
move one. Pure: the registry keeps the maps, per model, major and side; publishing asks `keep_numbers` for every new version, and
`contracts.compatibility.compare` to see whether a version could be published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import Incompatible, InvalidPackage, Violation
from limen.contracts.proto.schema import MAX_NUMBER, RESERVED_NUMBERS, field_numbers


class Numbered(msgspec.Struct, frozen=True):
    """A contract whose fields all carry their number, and every number that may never be given to another field."""

    contract: Contract
    inputs: dict[str, int]
    """Number by name, of every input this model and major ever had."""
    outputs: dict[str, int]
    """Number by name, of every output this model and major ever had."""


def keep_numbers(contract: Contract, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Numbered:
    """Return the contract with the numbers its fields were first given, and the numbers to keep from now on.

    A field that is known keeps its number. A new one takes the `number` it asks for, or else the next above all that were
    ever used; in the first version of a major that is its place in the list. Nothing that was kept is ever dropped.

    Args:
        contract: the contract of a version about to be registered.
        inputs: numbers kept for the inputs of this model and major; empty for its first version.
        outputs: the same for the outputs.

    Raises:
        Incompatible: a field asks for another number than the one it has, or for one that belongs to another field, even to
            a field that is gone; every such field is a violation, `inputs.age.number`.
        InvalidPackage: two fields ask for one number, or a number is not one protobuf allows.
    """
    problems = [
        *number_conflicts(contract.inputs, inputs, "inputs"),
        *number_conflicts(contract.outputs, outputs, "outputs"),
    ]
    if problems:
        shown = "; ".join(map(str, problems[:3]))
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise Incompatible(f"a Protobuf number cannot change within a major: {shown}{more}", violations=problems)
    now_inputs = _numbers(contract.inputs, inputs, "inputs")
    now_outputs = _numbers(contract.outputs, outputs, "outputs")
    return Numbered(
        msgspec.structs.replace(
            contract, inputs=_with(contract.inputs, now_inputs), outputs=_with(contract.outputs, now_outputs)
        ),
        {**inputs, **now_inputs},
        {**outputs, **now_outputs},
    )


def number_conflicts(fields: Sequence[Field], kept: Mapping[str, int], path: str) -> list[Violation]:
    """Return the explicit numbers that contradict what was kept."""
    owners = {number: name for name, number in kept.items()}
    found: list[Violation] = []
    for field in fields:
        where = f"{path}.{field.name}.number"
        if field.number is None:
            continue
        if field.name in kept:
            if field.number != kept[field.name]:
                found.append(Violation(where, f"must stay {kept[field.name]}, which callers' code was generated with"))
        elif field.number in owners:
            found.append(Violation(where, f"is the number of {owners[field.number]} and never given to another field"))
    return found


def _numbers(fields: Sequence[Field], kept: Mapping[str, int], path: str) -> dict[str, int]:
    if not kept:
        return field_numbers(fields, path)
    known = {f.name: kept.get(f.name, f.number) for f in fields}
    last = max([*kept.values(), *(number for number in known.values() if number is not None)])
    settled: list[Field] = []
    for field in fields:
        number = known[field.name]
        if number is None:
            last += 1
            if last in RESERVED_NUMBERS:
                last = RESERVED_NUMBERS.stop
            if last > MAX_NUMBER:
                text = "needs a number: the highest one is used and none follows it"
                raise InvalidPackage(
                    f"{path}.{field.name}.number: {text}", violations=[Violation(f"{path}.{field.name}.number", text)]
                )
            number = last
        settled.append(msgspec.structs.replace(field, number=number))
    return field_numbers(settled, path)


def _with(fields: Sequence[Field], numbers: Mapping[str, int]) -> tuple[Field, ...]:
    return tuple(msgspec.structs.replace(f, number=numbers[f.name]) for f in fields)
