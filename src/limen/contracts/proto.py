"""The typed protobuf definition of one model: a proto3 file with the contract's own field names and stable numbers.

Decisions, so that a file made today keeps working with the model of tomorrow:

- A field's number is its `number`, or its place in the list from 1. Appending a field changes no other number.
- Scalar inputs are `optional` whether the contract requires them or not: without presence a value that was forgotten would
  arrive as 0. Outputs are `optional` where they are nullable.
- Enums stay what they are, with their values in a comment: a list that grows must not break a caller's generated code.
- Vectors are `repeated`; matrices are flattened row-major; fields with two or more variable axes carry their shape beside them.
- Keywords are no trouble to protobuf; the few names that would hide a Python message's own methods get a `_` at the end.
- JSON names are the contract's names, so the JSON form of a message reads like the record API.

Pure: the gateway serves what `proto_text` returns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from limen.contracts.contract import Contract, Field, Sensitivity
from limen.contracts.errors import InvalidPackage

MAX_NUMBER: Final = 536_870_911
RESERVED_NUMBERS: Final = range(19_000, 20_000)
"""Numbers protobuf keeps for itself."""

_TYPES: Final = {
    "bool": "bool",
    "int8": "int32",
    "int16": "int32",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint32",
    "uint16": "uint32",
    "uint32": "uint32",
    "uint64": "uint64",
    "float16": "float",
    "bfloat16": "float",
    "float32": "float",
    "float64": "double",
    "string": "string",
    "bytes": "bytes",
}
_MESSAGES: Final = frozenset({"Instance", "Prediction", "PredictRequest", "PredictResponse"})
_TAKEN: Final = frozenset({
    "ByteSize", "Clear", "ClearExtension", "ClearField", "CopyFrom", "DESCRIPTOR", "DiscardUnknownFields", "Extensions",
    "FromString", "HasExtension", "HasField", "IsInitialized", "ListFields", "MergeFrom", "MergeFromString",
    "ParseFromString", "SerializePartialToString", "SerializeToString", "SetInParent", "UnknownFields", "WhichOneof",
})  # fmt: skip
"""What a Python message calls its own attributes: a field of that name would hide them and break the message."""
_WIDTH: Final = 100


def proto_package(name: str, version_major: int = 1) -> str:
    """Return the protobuf package of a model; names that differ only in `.`, `-` and `_` share one."""
    part = re.sub(r"[^a-z0-9]+", "_", name).strip("_")
    return f"limen.models.{part if part[:1].isalpha() else f'm_{part}'}.v{version_major}"


def service_name(name: str) -> str:
    """Return the name of a model's typed service."""
    camel = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^a-z0-9]+", name))
    camel = camel if camel[:1].isalpha() else f"M{camel}"
    return f"{camel}Service" if camel in _MESSAGES or camel.endswith("Tensor") else camel


def field_numbers(fields: Sequence[Field], path: str) -> dict[str, int]:
    """Return the protobuf number of each field by name.

    Raises:
        InvalidPackage: two fields share a number, or a number is outside what protobuf allows.
    """
    numbers: dict[str, int] = {}
    owners: dict[int, str] = {}
    for place, field in enumerate(fields, 1):
        number = place if field.number is None else field.number
        if not 1 <= number <= MAX_NUMBER or number in RESERVED_NUMBERS:
            raise InvalidPackage(f"{path}.{field.name}.number: must be 1 to {MAX_NUMBER} and not 19000 to 19999")
        if number in owners:
            raise InvalidPackage(f"{path}.{field.name}.number: is already the number of {owners[number]}")
        owners[number] = field.name
        numbers[field.name] = number
    return numbers


def proto_text(contract: Contract, version_major: int = 1) -> str:
    """Return the text of the model's proto3 file; the same contract always gives the same text.

    Raises:
        InvalidPackage: the contract's field numbers are not usable.
    """
    service = service_name(contract.name)
    fields = (*contract.inputs, *contract.outputs)
    blocks = [
        _comment([contract.title or contract.name, contract.description, *_facts(contract)])
        + 'syntax = "proto3";\n\n'
        + f"package {proto_package(contract.name, version_major)};",
        _comment([f"Typed calls to the model {contract.name}."])
        + f"service {service} {{\n"
        + _comment(["Answers every row of the request, in its order.", *_deadline(contract)], "  ")
        + "  rpc Predict(PredictRequest) returns (PredictResponse);\n}",
        _request(contract),
        _RESPONSE,
        _record("Instance", "One row that the model takes.", contract.inputs, "inputs"),
        _record("Prediction", "One row of the answer.", contract.outputs, "outputs"),
        *(_tensor_message(t) for t in sorted({_TYPES[f.type] for f in fields if _carries_shape(f)})),
    ]
    return "\n\n".join(blocks) + "\n"


def _request(contract: Contract) -> str:
    limit = contract.batching.max_request_rows
    return (
        "message PredictRequest {\n"
        f"  // The rows, 1 to {limit}.\n"
        "  repeated Instance instances = 1;\n"
        "  // Your name for this request, 1 to 128 of A-Z a-z 0-9 . _ : -; echoed. Made up when empty.\n"
        "  string id = 2;\n"
        "}"
    )


_RESPONSE: Final = """\
message PredictResponse {
  // One prediction for each instance, in the same order.
  repeated Prediction predictions = 1;
  // The name of the request.
  string id = 2;
  // The model that answered.
  string model_name = 3 [json_name = "model_name"];
  // Its version.
  string model_version = 4 [json_name = "model_version"];
}"""


def _record(message: str, text: str, fields: Sequence[Field], path: str) -> str:
    numbers = field_numbers(fields, path)
    is_input = path == "inputs"
    lines = [_comment([text]) + f"message {message} {{"]
    if len({_default_json_name(f.name) for f in fields}) < len(fields):
        # protoc compares the camel-case names even of fields that carry a JSON name of their own.
        lines.append("  option deprecated_legacy_json_field_conflicts = true;")
    lines += [_field(f, numbers[f.name], is_input=is_input) for f in fields]
    return "\n".join(lines) + "\n}"


def _field(field: Field, number: int, *, is_input: bool) -> str:
    scalar = _TYPES[field.type]
    if _carries_shape(field):
        kind = _tensor_name(scalar)
    elif field.shape:
        kind = f"repeated {scalar}"
    elif is_input or field.nullable:
        kind = f"optional {scalar}"
    else:
        kind = scalar
    name = f"{field.name}_" if field.name in _TAKEN else field.name
    options = "" if _default_json_name(name) == field.name else f' [json_name = "{field.name}"]'
    comment = _comment(_about(field, is_input=is_input), "  ")
    return f"{comment}  {kind} {name} = {number}{options};"


def _about(field: Field, *, is_input: bool) -> list[str]:
    """Say in words what the type cannot."""
    facts = [f"Unit: {field.unit}." if field.unit else "", _limits(field)]
    if field.enum is not None:
        facts.append(f"One of: {', '.join(map(str, field.enum))}.")
    if field.type in {"int8", "int16", "uint8", "uint16", "float16", "bfloat16"}:
        facts.append(f"Carries {field.type}.")
    if field.shape:
        facts.append(_shape(field))
    if is_input:
        facts.append(_presence(field))
    elif field.nullable:
        facts.append("Absent when the model has no value.")
    if field.sensitivity in {Sensitivity.PERSONAL, Sensitivity.SECRET}:
        facts.append(f"Sensitivity: {field.sensitivity.value}.")
    return [field.title, field.description, " ".join(filter(None, facts))]


def _limits(field: Field) -> str:
    limits = [
        f"at least {field.minimum}" if field.minimum is not None else "",
        f"at most {field.maximum}" if field.maximum is not None else "",
        f"at least {field.min_length} long" if field.min_length is not None else "",
        f"at most {field.max_length} long" if field.max_length is not None else "",
        f"matches {field.pattern}" if field.pattern is not None else "",
    ]
    text = ", ".join(filter(None, limits))
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _shape(field: Field) -> str:
    dims = ", ".join("any" if d < 0 else str(d) for d in field.shape)
    if _carries_shape(field):
        return f"Shape [{dims}]; values row-major."
    return f"Shape [{dims}], flattened row-major." if len(field.shape) > 1 else f"Shape [{dims}]."


def _presence(field: Field) -> str:
    if field.is_required:
        return "Required."
    empty = "Empty" if field.shape and not _carries_shape(field) else "Absent"
    if not field.has_default:
        return f"{empty} means missing."
    shown = "the default" if field.sensitivity is Sensitivity.SECRET else msgspec.json.encode(field.default).decode()
    return f"{empty} means {shown}."


def _facts(contract: Contract) -> Iterable[str]:
    yield f"Owner: {contract.owner}." if contract.owner else ""
    yield f"Licence: {contract.licence}." if contract.licence else ""
    yield "Made from the model's contract. Numbers stay as they are when fields are added at the end."


def _deadline(contract: Contract) -> Iterable[str]:
    if contract.slo.deadline_ms:
        yield f"Send a gRPC deadline; {contract.slo.deadline_ms:g} ms apply when you send none."
    else:
        yield "Send a gRPC deadline."


def _carries_shape(field: Field) -> bool:
    return sum(d < 0 for d in field.shape) > 1


def _tensor_name(scalar: str) -> str:
    return f"{scalar.capitalize()}Tensor"


def _tensor_message(scalar: str) -> str:
    return (
        "// Values of a shape that only the caller knows.\n"
        f"message {_tensor_name(scalar)} {{\n"
        "  // Length of each axis.\n"
        "  repeated int64 shape = 1;\n"
        "  // Elements, row-major.\n"
        f"  repeated {scalar} values = 2;\n"
        "}"
    )


def _default_json_name(name: str) -> str:
    """Return the JSON name protoc gives a field: underscores go, the letter after one becomes a capital."""
    return re.sub(r"_+(.?)", lambda found: found[1].upper(), name)


def _comment(texts: Iterable[str], indent: str = "") -> str:
    """Return `//` lines for texts whatever they contain: every line break starts a new comment line."""
    lines: list[str] = []
    for text in texts:
        for raw in text.splitlines():
            clean = " ".join("".join(c if c.isprintable() else " " for c in raw).split())
            lines += _wrapped(clean, _WIDTH - len(indent)) if clean else []
    return "".join(f"{indent}// {line}\n" for line in lines)


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
