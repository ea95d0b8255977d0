"""The typed Protobuf definition of one model, as a descriptor that Protobuf libraries load.

The same as `protoc` makes of `contracts.proto.text.proto_text`, which the tests prove. The gateway serves calls and reflection from it;
`contracts.clients.code` puts it into the clients it writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
    SourceCodeInfo,
)

from limen.contracts.contract import Contract
from limen.contracts.proto.schema import Label, ProtoField, ProtoFile, ProtoMessage, proto_file
from limen.contracts.proto.text import comment_lines

_TYPES: Final = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "float": FieldDescriptorProto.TYPE_FLOAT,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}

_MESSAGES: Final = FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER
_SERVICES: Final = FileDescriptorProto.SERVICE_FIELD_NUMBER
_METHODS: Final = ServiceDescriptorProto.METHOD_FIELD_NUMBER
_FIELDS: Final = DescriptorProto.FIELD_FIELD_NUMBER


def file_descriptor(contract: Contract, endpoint: str = "") -> FileDescriptorProto:
    """Return the descriptor of the model's proto file.

    Args:
        contract: the contract.
        endpoint: the name callers know it by; the model's own when empty.

    Raises:
        InvalidPackage: the contract's field numbers are not usable.
    """
    file = proto_file(contract, endpoint)
    described = FileDescriptorProto(name=file.path, package=file.package, syntax="proto3")
    for message in file.messages:
        _describe(described.message_type.add(name=message.name), message, file.package)
    service = described.service.add(name=file.service)
    for method in file.methods:
        service.method.add(
            name=method.name,
            input_type=f".{file.package}.PredictRequest",
            output_type=f".{file.package}.PredictResponse",
            # Set only where true, as protoc does.
            **({"server_streaming": True} if method.is_stream else {}),
        )
    return described


def comments(file: ProtoFile) -> SourceCodeInfo:
    """Return what a file says of its parts, in the form that tools show to people who look at a server's reflection."""
    info = SourceCodeInfo()

    def say(path: list[int], texts: Iterable[str]) -> None:
        text = "".join(f" {line}\n" for line in comment_lines(texts))
        if text:
            # A span is required; there is no text that it could be a place in.
            info.location.add(path=path, span=[len(info.location), 0, 0], leading_comments=text)

    say([_SERVICES, 0], [*file.about, file.service_about])
    for i, method in enumerate(file.methods):
        say([_SERVICES, 0, _METHODS, i], method.about)
    for i, message in enumerate(file.messages):
        say([_MESSAGES, i], [message.about])
        for j, field in enumerate(message.fields):
            say([_MESSAGES, i, _FIELDS, j], field.about)
    return info


def _describe(into: DescriptorProto, message: ProtoMessage, package: str) -> None:
    if message.has_json_conflicts:
        into.options.deprecated_legacy_json_field_conflicts = True
    if message.choice:
        into.oneof_decl.add(name=message.choice)
    for field in message.fields:
        described = into.field.add(
            name=field.name,
            number=field.number,
            json_name=field.json_name or field.name,
            label=FieldDescriptorProto.LABEL_REPEATED
            if field.label in (Label.REPEATED, Label.MAP)
            else FieldDescriptorProto.LABEL_OPTIONAL,
        )
        _set_type(described, field.type, package)
        if field.label is Label.CHOICE:
            described.oneof_index = 0
        elif field.label is Label.OPTIONAL:
            # Presence of a proto3 scalar is a oneof with one member.
            described.proto3_optional = True
            described.oneof_index = len(into.oneof_decl)
            into.oneof_decl.add(name=f"_{field.name}")
        elif field.label is Label.MAP:
            _describe_map(into, described, field, f"{package}.{message.name}")


def _describe_map(into: DescriptorProto, described: FieldDescriptorProto, field: ProtoField, owner: str) -> None:
    """Describe a map as what it is on the wire: a repeated message of key and value."""
    entry = into.nested_type.add(name=f"{field.name.capitalize()}Entry")
    entry.options.map_entry = True
    optional = FieldDescriptorProto.LABEL_OPTIONAL
    entry.field.add(name="key", number=1, json_name="key", label=optional, type=FieldDescriptorProto.TYPE_STRING)
    entry.field.add(name="value", number=2, json_name="value", label=optional).MergeFrom(
        FieldDescriptorProto(type=described.type, type_name=described.type_name)
    )
    described.type, described.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{owner}.{entry.name}"


def _set_type(described: FieldDescriptorProto, kind: str, package: str) -> None:
    scalar = _TYPES.get(kind)
    if scalar is not None:
        described.type = scalar
    else:
        described.type, described.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{package}.{kind}"
