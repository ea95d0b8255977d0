"""Explains why the typed decoder refused an OIP JSON body: every mistake with its path, none of the values."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from limen.contracts.contract import Json
from limen.contracts.errors import MAX_VIOLATIONS, InvalidArgument, Reason, Violation
from limen.contracts.strict import json as strict_json
from limen.contracts.tensors import BY_WIRE, ElementType, Kind

_BODY: Final = ("inputs", "outputs", "id", "parameters", "model_name")
_INPUT: Final = ("name", "shape", "datatype", "data", "parameters")
_OUTPUT: Final = ("name", "parameters")
_WORDS: Final = {
    Kind.BOOL: "true or false",
    Kind.INT: "whole numbers",
    Kind.FLOAT: "numbers",
    Kind.TEXT: "text",
    Kind.BINARY: "text",
}


def explain(text: bytes) -> InvalidArgument:
    """Return the error for a body that is not a well-formed infer request."""
    try:
        value = strict_json.parse(text)
    except InvalidArgument as exc:
        return exc
    found: list[tuple[Reason, Violation]] = []
    _body(value, found)
    if not found:
        return InvalidArgument("the body is not an infer request", reason=Reason.INVALID_FIELD)
    return InvalidArgument.of([v for _, v in found[:MAX_VIOLATIONS]], found[0][0])


def wrong_element(data: list[Any], allowed: Collection[type], element: ElementType, path: str) -> InvalidArgument:
    """Return the error for the first element whose JSON type is not one of the datatype's."""
    index = next((i for i, value in enumerate(data) if type(value) not in allowed), 0)
    return InvalidArgument.at(f"{path}[{index}]", f"must be {_WORDS[element.kind]} for {element.wire}", Reason.DTYPE)


def _body(value: Json, found: list[tuple[Reason, Violation]]) -> None:
    if not isinstance(value, dict):
        found.append((Reason.INVALID_FIELD, Violation("", "the body must be an object with inputs")))
        return
    _unknown(value, _BODY, "", found)
    # Null is the same as leaving out.
    value = {key: item for key, item in value.items() if item is not None}
    if not isinstance(value.get("model_name", ""), str):
        found.append((Reason.INVALID_NAME, Violation("model_name", "must be text")))
    if "id" in value and not isinstance(value["id"], str):
        found.append((Reason.INVALID_ID, Violation("id", "must be text")))
    _parameters(value, "", found)
    inputs = value.get("inputs")
    if not isinstance(inputs, list):
        found.append((Reason.INPUT_SET, Violation("inputs", "must be a list of tensors")))
    else:
        for i, item in enumerate(inputs):
            _input(item, f"inputs[{i}]", found)
    outputs = value.get("outputs", [])
    if not isinstance(outputs, list):
        found.append((Reason.OUTPUT_SET, Violation("outputs", "must be a list")))
        return
    for i, item in enumerate(outputs):
        path = f"outputs[{i}]"
        if isinstance(item, dict):
            _unknown(item, _OUTPUT, path, found)
            _text(item, "name", path, Reason.OUTPUT_SET, found)
            _parameters(item, path, found)
        else:
            found.append((Reason.OUTPUT_SET, Violation(path, "must be an object")))


def _input(item: Json, path: str, found: list[tuple[Reason, Violation]]) -> None:
    if not isinstance(item, dict):
        found.append((Reason.INPUT_SET, Violation(path, "must be an object")))
        return
    _unknown(item, _INPUT, path, found)
    _text(item, "name", path, Reason.INPUT_SET, found)
    datatype = item.get("datatype")
    if not isinstance(datatype, str) or datatype not in BY_WIRE:
        found.append((Reason.DTYPE, Violation(f"{path}.datatype", f"must be one of {', '.join(BY_WIRE)}")))
    shape = item.get("shape")
    if not isinstance(shape, list):
        found.append((Reason.SHAPE_MISMATCH, Violation(f"{path}.shape", "must be a list of whole numbers")))
    else:
        found.extend(
            (Reason.SHAPE_MISMATCH, Violation(f"{path}.shape[{i}]", "must be a whole number from 0"))
            for i, d in enumerate(shape)
            if not isinstance(d, int) or isinstance(d, bool) or d < 0
        )
    if "data" in item and not isinstance(item["data"], list):
        found.append((Reason.DTYPE, Violation(f"{path}.data", "must be a list")))
    _parameters(item, path, found)


def _text(item: dict[str, Json], key: str, path: str, reason: Reason, found: list[tuple[Reason, Violation]]) -> None:
    if not isinstance(item.get(key), str):
        found.append((reason, Violation(f"{path}.{key}", "must be text")))


def _parameters(item: dict[str, Json], path: str, found: list[tuple[Reason, Violation]]) -> None:
    where = f"{path}.parameters" if path else "parameters"
    value = item.get("parameters")
    if value is None:
        return
    if not isinstance(value, dict):
        found.append((Reason.INVALID_PARAMETER, Violation(where, "must be an object")))
    elif not all(v is None or isinstance(v, (str, bool, int, float)) for v in value.values()):
        found.append((Reason.INVALID_PARAMETER, Violation(where, "must hold text, numbers, true and false only")))


def _unknown(item: dict[str, Json], known: tuple[str, ...], path: str, found: list[tuple[Reason, Violation]]) -> None:
    if any(key not in known for key in item):
        text = f"has an unknown field; known are {', '.join(known)}"
        found.append((Reason.UNKNOWN_FIELD, Violation(path, text) if path else Violation("", f"the body {text}")))
