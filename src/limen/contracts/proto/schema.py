"""The contents of a model's Protobuf file: its service, its messages, and the number, type and comment of each field.

Not here: how that is written down. `contracts.proto.text` prints it for people and `protoc`, `contracts.proto.descriptor` builds what
servers and clients load; both walk the same `ProtoFile`, so they cannot differ. Decisions, so that a file made today keeps
working with the model of tomorrow:

- A field's number is its `number`, or its place in the list from 1. Appending a field changes no other number.
- Scalar inputs are `optional` whether the contract requires them or not: without presence a value that was forgotten would
  arrive as 0. Outputs are `optional` where they are nullable.
- Enums stay what they are, with their values in a comment: a list that grows must not break a caller's generated code.
- Vectors are `repeated`; matrices are flattened row-major; fields with two or more variable axes carry their shape beside them.
- Every service has both methods, because whether a model streams is not in its contract and may change within a major.
- Keywords are no trouble to protobuf; the few names that would hide a Python message's own methods get a `_` at the end.
- JSON names are the contract's names, so the JSON form of a message reads like the record API.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from limen.contracts.contract import Contract, Field, Sensitivity
from limen.contracts.errors import InvalidPackage

MAX_NUMBER: Final = 536_870_911
RESERVED_NUMBERS: Final = range(19_000, 20_000)
"""Numbers protobuf keeps for itself."""

SCALARS: Final = {
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
    "json": "string",
    "bytes": "bytes",
}
"""The protobuf type that carries each element type."""

_MESSAGES: Final = frozenset({"Instance", "Prediction", "Parameter", "PredictRequest", "PredictResponse"})
_TAKEN: Final = frozenset({
    "ByteSize", "Clear", "ClearExtension", "ClearField", "CopyFrom", "DESCRIPTOR", "DiscardUnknownFields", "Extensions",
    "FromString", "HasExtension", "HasField", "IsInitialized", "ListFields", "MergeFrom", "MergeFromString",
    "ParseFromString", "SerializePartialToString", "SerializeToString", "SetInParent", "UnknownFields", "WhichOneof",
})  # fmt: skip
"""What a Python message calls its own attributes: a field of that name would hide them and break the message."""
_MAJOR: Final = re.compile(r"\.v[1-9][0-9]*\Z")


class Label(StrEnum):
    """How often a field occurs."""

    ONE = ""
    """Once; the zero of its type when absent."""
    OPTIONAL = "optional"
    """Once or not at all, and the difference is seen."""
    REPEATED = "repeated"
    """Any number of times."""
    MAP = "map"
    """By a text key."""
    CHOICE = "choice"
    """One of the fields of `ProtoMessage.choice`."""


class ProtoField(msgspec.Struct, frozen=True):
    """One field of a message."""

    name: str
    number: int
    type: str
    """A protobuf scalar, or the name of a message of the same file."""
    label: Label = Label.ONE
    json_name: str = ""
    """Its name in JSON; `name` when empty."""
    about: tuple[str, ...] = ()
    """What people should know of it."""


class ProtoMessage(msgspec.Struct, frozen=True):
    """One message."""

    name: str
    fields: tuple[ProtoField, ...]
    about: str = ""
    choice: str = ""
    """The name of its `oneof`, if it has one."""

    @property
    def has_json_conflicts(self) -> bool:
        """Whether the camel-case names of two fields are the same; protoc compares them even where JSON names are given."""
        return len({default_json_name(f.json_name or f.name) for f in self.fields}) < len(self.fields)


class ProtoMethod(msgspec.Struct, frozen=True):
    """One method of the service; all take a PredictRequest and answer with a PredictResponse."""

    name: str
    is_stream: bool
    about: tuple[str, ...]


class ProtoFile(msgspec.Struct, frozen=True):
    """The whole file of one endpoint and major."""

    package: str
    service: str
    about: tuple[str, ...]
    service_about: str
    methods: tuple[ProtoMethod, ...]
    messages: tuple[ProtoMessage, ...]

    @property
    def full_service(self) -> str:
        """The name of the service with its package, as callers write it."""
        return f"{self.package}.{self.service}"

    @property
    def path(self) -> str:
        """Where the file belongs in a tree of proto files."""
        folder = self.package.replace(".", "/")
        return f"{folder}/{folder.split('/')[-2]}.proto"


def stem(endpoint: str) -> str:
    """Return an endpoint's name as a part of a protobuf package; a major at its end (`credit.v2`) does not count."""
    part = re.sub(r"[^a-z0-9]+", "_", _MAJOR.sub("", endpoint)).strip("_")
    return part if part[:1].isalpha() else f"m_{part}"


def proto_package(endpoint: str, major: int = 1) -> str:
    """Return the protobuf package of an endpoint; names that differ only in `.`, `-` and `_` share one."""
    return f"limen.models.{stem(endpoint)}.v{major}"


def service_name(endpoint: str) -> str:
    """Return the name of an endpoint's typed service."""
    camel = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^a-z0-9]+", _MAJOR.sub("", endpoint)))
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


def proto_file(contract: Contract, endpoint: str = "") -> ProtoFile:
    """Return what the protobuf file of a contract holds.

    Args:
        contract: the contract.
        endpoint: the name callers know it by; the model's own when empty.

    Raises:
        InvalidPackage: the contract's field numbers are not usable.
    """
    name = endpoint or contract.name
    fields = (*contract.inputs, *contract.outputs)
    return ProtoFile(
        proto_package(name, contract.major),
        service_name(name),
        (contract.title or name, contract.description, *_facts(contract)),
        f"Typed calls to the model {name}.",
        (
            ProtoMethod("Predict", False, ("Answers every row of the request, in its order.", _deadline(contract))),
            ProtoMethod(
                "PredictStream",
                True,
                ("Answers in parts, each with a prediction for every row; one part if the model does not stream.",),
            ),
        ),
        (
            _request(contract),
            _RESPONSE,
            _record("Instance", "One row that the model takes.", contract.inputs, "inputs"),
            _record("Prediction", "One row of the answer.", contract.outputs, "outputs"),
            _PARAMETER,
            *(_tensor_message(t) for t in sorted({SCALARS[f.type] for f in fields if carries_shape(f)})),
        ),
    )


def attribute(field: Field) -> str:
    """Return what a field is called in a message."""
    return f"{field.name}_" if field.name in _TAKEN else field.name


def carries_shape(field: Field) -> bool:
    """Return whether a field's values travel with their shape."""
    return sum(d < 0 for d in field.shape) > 1


def default_json_name(name: str) -> str:
    """Return the JSON name protoc gives a field: underscores go, the letter after one becomes a capital."""
    return re.sub(r"_+(.?)", lambda found: found[1].upper(), name)


def _request(contract: Contract) -> ProtoMessage:
    limit = contract.batching.max_request_rows
    id_rule = "Your id for this request, 1 to 128 of A-Z a-z 0-9 . _ : -; echoed. Generated if empty."
    return ProtoMessage(
        "PredictRequest",
        (
            ProtoField("instances", 1, "Instance", Label.REPEATED, about=(f"The rows, 1 to {limit}.",)),
            ProtoField("id", 2, "string", about=(id_rule,)),
            ProtoField(
                "parameters",
                3,
                "Parameter",
                Label.MAP,
                about=(
                    "What the model takes beside its rows; `timeout` (microseconds) and `priority` are the server's.",
                ),
            ),
        ),
    )


_RESPONSE: Final = ProtoMessage(
    "PredictResponse",
    (
        ProtoField(
            "predictions",
            1,
            "Prediction",
            Label.REPEATED,
            about=("One prediction for each instance, in the same order.",),
        ),
        ProtoField("id", 2, "string", about=("The name of the request.",)),
        ProtoField("model_name", 3, "string", about=("The model that answered.",)),
        ProtoField("model_version", 4, "string", about=("Its version.",)),
        ProtoField(
            "fallback",
            5,
            "string",
            about=("`constant` or `version` when the declared fallback answered and not the model; else empty.",),
        ),
    ),
)
_PARAMETER: Final = ProtoMessage(
    "Parameter",
    tuple(
        ProtoField(f"{kind}_param", number, scalar, Label.CHOICE)
        for number, (kind, scalar) in enumerate(
            (("bool", "bool"), ("int64", "int64"), ("string", "string"), ("double", "double"), ("uint64", "uint64")), 1
        )
    ),
    "One parameter, as in the Open Inference Protocol.",
    "parameter_choice",
)


def _record(message: str, text: str, fields: Sequence[Field], path: str) -> ProtoMessage:
    numbers = field_numbers(fields, path)
    return ProtoMessage(message, tuple(_field(f, numbers[f.name], is_input=path == "inputs") for f in fields), text)


def _field(field: Field, number: int, *, is_input: bool) -> ProtoField:
    kind, label = SCALARS[field.type], Label.ONE
    if carries_shape(field):
        kind = _tensor_name(kind)
    elif field.shape:
        label = Label.REPEATED
    elif is_input or field.nullable:
        label = Label.OPTIONAL
    return ProtoField(attribute(field), number, kind, label, field.name, tuple(_about(field, is_input=is_input)))


def _about(field: Field, *, is_input: bool) -> list[str]:
    """Say in words what the type cannot."""
    facts = [f"Unit: {field.unit}." if field.unit else "", _limits(field)]
    if field.enum is not None:
        facts.append(f"One of: {', '.join(map(str, field.enum))}.")
    if field.type in {"int8", "int16", "uint8", "uint16", "float16", "bfloat16"}:
        facts.append(f"Carries {field.type}.")
    if field.is_json:
        facts.append("JSON text.")
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
    if carries_shape(field):
        return f"Shape [{dims}]; values row-major."
    return f"Shape [{dims}], flattened row-major." if len(field.shape) > 1 else f"Shape [{dims}]."


def _presence(field: Field) -> str:
    if field.is_required:
        return "Required."
    empty = "Empty" if field.shape and not carries_shape(field) else "Absent"
    if not field.has_default:
        return f"{empty} means missing."
    shown = "the default" if field.sensitivity is Sensitivity.SECRET else msgspec.json.encode(field.default).decode()
    return f"{empty} means {shown}."


def _facts(contract: Contract) -> Iterable[str]:
    yield f"Owner: {contract.owner}." if contract.owner else ""
    yield f"Licence: {contract.licence}." if contract.licence else ""
    yield "Made from the model's contract. Numbers do not change when fields are added at the end."


def _deadline(contract: Contract) -> str:
    if contract.slo.deadline_ms:
        return f"Send a gRPC deadline; {contract.slo.deadline_ms:g} ms apply when you send none."
    return "Send a gRPC deadline."


def _tensor_name(scalar: str) -> str:
    return f"{scalar.capitalize()}Tensor"


def _tensor_message(scalar: str) -> ProtoMessage:
    return ProtoMessage(
        _tensor_name(scalar),
        (
            ProtoField("shape", 1, "int64", Label.REPEATED, about=("Length of each axis.",)),
            ProtoField("values", 2, scalar, Label.REPEATED, about=("Elements, row-major.",)),
        ),
        "Values of a shape that only the caller knows.",
    )
