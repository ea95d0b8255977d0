"""A Python client of one model, written from its contract: one file, typed, with nothing of Limen behind it.

The file stands alone on purpose. Callers are often other teams with other dependencies: what they get must not bring a server, and
must go on working when Limen moves on. It needs httpx for REST, or grpcio and protobuf for gRPC; the messages are built from the
descriptor inside, so no generated code and no `protoc` is needed. Who wants retries, data frames or several models has
`limen.client`. Pure: the command line and the tests write what `client_code` returns; the same contract always gives the same text.
"""

from __future__ import annotations

import base64
import keyword
import math
from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from limen.contracts.clients.template_grpc import GRPC
from limen.contracts.clients.template_rest import HEAD, REST
from limen.contracts.contract import Contract, Field
from limen.contracts.proto.descriptor import file_descriptor
from limen.contracts.proto.schema import ProtoField, attribute, proto_file
from limen.contracts.proto.text import comment_lines
from limen.contracts.tensors import Kind

_TYPES: Final = {Kind.BOOL: "bool", Kind.INT: "int", Kind.FLOAT: "float", Kind.TEXT: "str", Kind.BINARY: "bytes"}
_LINE: Final = 100


def client_code(contract: Contract, endpoint: str = "") -> str:
    """Return the text of a client module for the model.

    Args:
        contract: the contract.
        endpoint: the name callers know it by; the model's own when empty.

    Raises:
        InvalidPackage: the contract's field numbers are not usable.
    """
    name = endpoint or contract.name
    file = proto_file(contract, name)
    rows = {message.name: message.fields for message in file.messages}
    records = [
        _record("Instance", "One row that the model takes.", contract.inputs, rows["Instance"]),
        _record("Prediction", "One row of the answer.", contract.outputs, rows["Prediction"]),
    ]
    needed = [word for word in ("Literal", "NotRequired") if any(f"{word}[" in record for record in records)]
    head = [
        _head(contract, name)
        + HEAD
        + f"from typing import {', '.join(['Any', *needed, 'Self', 'TypedDict', 'cast'])}\n",
        f"MODEL = {_text(name)}\nSERVICE = {_text(file.full_service)}\n",
    ]
    blocks = [
        "\n".join(head),
        *records,
        REST + GRPC + _table("_INPUTS", contract.inputs) + _table("_OUTPUTS", contract.outputs),
        _bytes("_FILE", "The model's proto file, as protobuf describes it to itself.", file_descriptor(contract, name))
        + _bytes("_ERRORS", "What a gRPC error carries, as far as it is shown here.", _errors()),
    ]
    return "\n\n".join(blocks)


def _head(contract: Contract, name: str) -> str:
    about = [contract.title or name, contract.description]
    facts = [
        f"Client of the model {name}, contract major {contract.major}. Made by `limen client`; make it again instead of editing it.",
        "Needs httpx for REST, or grpcio and protobuf for gRPC.",
    ]
    lines = comment_lines([*about, *facts], _LINE)
    # Who formats the file would make the next one differ in every line.
    return "# fmt: off\n" + _doc(lines, "") + "\n"


def _record(kind: str, text: str, fields: Sequence[Field], described: Sequence[ProtoField]) -> str:
    """Return a TypedDict; its fields are listed as a dictionary where one is named like a keyword."""
    types = [(f, _type(f, is_input=kind == "Instance"), list(d.about)) for f, d in zip(fields, described, strict=True)]
    if any(keyword.iskeyword(f.name) or f.name.startswith("__") for f in fields):
        lines = [f"{kind} = TypedDict(", f"    {_text(kind)},", "    {"]
        for field, kind_of, about in types:
            lines += [f"        # {line}" for line in comment_lines(about, _LINE)]
            lines.append(f"        {_text(field.name)}: {kind_of},")
        return "\n".join([*lines, "    },", ")", ""])
    lines = [f"class {kind}(TypedDict):", _doc([text], "    ")]
    for field, kind_of, about in types:
        lines.append(f"    {field.name}: {kind_of}")
        if said := comment_lines(about, _LINE):
            lines.append(_doc(said, "    ").rstrip("\n"))
    return "\n".join(lines) + "\n"


def _type(field: Field, *, is_input: bool) -> str:
    found = "Any" if field.is_json else _TYPES[field.element.kind]
    if field.enum is not None and field.element.kind in (Kind.TEXT, Kind.INT):
        found = f"Literal[{', '.join(map(_literal, field.enum))}]"
    if field.nullable and field.shape and is_input:
        found = f"{found} | None"
    for _ in field.shape:
        found = f"list[{found}]"
    if field.nullable:
        found = f"{found} | None"
    return f"NotRequired[{found}]" if is_input and not field.is_required else found


def _literal(value: object) -> str:
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    """Return a Python text literal in plain ASCII, whatever the text holds."""
    return ascii(value)


def _doc(lines: Iterable[str], indent: str) -> str:
    """Return a docstring that its text cannot leave."""
    safe = [line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    if len(safe) == 1:
        return f'{indent}"""{safe[0]}"""\n'
    return "\n".join([f'{indent}"""{safe[0]}', *(f"{indent}{line}" for line in safe[1:]), f'{indent}"""']) + "\n"


def _table(name: str, fields: Sequence[Field]) -> str:
    lines = [f"{name} = {{"]
    for field in fields:
        given = [_text(attribute(field))]
        given += [f"shape={field.shape!r}"] if field.shape else []
        given += ["is_nullable=True"] if field.nullable else []
        given += ["is_bytes=True"] if field.element.kind is Kind.BINARY else []
        given += ["is_json=True"] if field.is_json else []
        if field.nullable and field.shape and not field.element.size:
            given.append(f"missing={'' if field.element.kind is Kind.TEXT else b''!r}")
        lines.append(f"    {_text(field.name)}: _Field({', '.join(given)}),")
    return "\n".join([*lines, "}", ""])


def _bytes(name: str, text: str, file: FileDescriptorProto) -> str:
    data = base64.b64encode(file.SerializeToString(deterministic=True)).decode()
    parts = [f'    "{data[i * _LINE : (i + 1) * _LINE]}"' for i in range(math.ceil(len(data) / _LINE))]
    return "\n".join([f"{name} = (", *parts, ")", f'"""{text}"""', ""])


def _errors() -> FileDescriptorProto:
    """Describe, under names of our own, the parts of google.rpc's error messages that clients show."""
    text, raw, message = (
        FieldDescriptorProto.TYPE_STRING,
        FieldDescriptorProto.TYPE_BYTES,
        FieldDescriptorProto.TYPE_MESSAGE,
    )
    kinds = {
        "Status": [("details", 3, message, "Any")],
        "Any": [("type_url", 1, text, ""), ("value", 2, raw, "")],
        "BadRequest": [("field_violations", 1, message, "Violation")],
        "Violation": [("field", 1, text, ""), ("description", 2, text, "")],
        "ErrorInfo": [("reason", 1, text, "")],
    }
    file = FileDescriptorProto(name="limen/client/errors.proto", package="limen.client", syntax="proto3")
    for name, fields in kinds.items():
        described = file.message_type.add(name=name)
        for field, number, scalar, target in fields:
            added = described.field.add(name=field, number=number, type=scalar)
            added.label = FieldDescriptorProto.LABEL_REPEATED if target else FieldDescriptorProto.LABEL_OPTIONAL
            if target:
                added.type_name = f".limen.client.{target}"
    return file
