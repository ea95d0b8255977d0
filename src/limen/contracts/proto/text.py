"""The typed Protobuf definition of one model as text: a proto3 file with the contract's field names and stable numbers.

What it says is decided in `contracts.proto.schema`. Pure: the gateway serves what `proto_text` returns.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from limen.contracts.contract import Contract
from limen.contracts.proto.schema import Label, ProtoField, ProtoFile, ProtoMessage, default_json_name, proto_file

_WIDTH: Final = 100


def proto_text(contract: Contract, endpoint: str = "") -> str:
    """Return the text of the model's proto3 file; the same contract always gives the same text.

    Args:
        contract: the contract.
        endpoint: the name callers know it by; the model's own when empty.

    Raises:
        InvalidPackage: the contract's field numbers are not usable.
    """
    file = proto_file(contract, endpoint)
    blocks = [
        _comment(file.about) + f'syntax = "proto3";\n\npackage {file.package};',
        _service(file),
        *map(_message, file.messages),
    ]
    return "\n\n".join(blocks) + "\n"


def _service(file: ProtoFile) -> str:
    lines = [_comment([file.service_about]) + f"service {file.service} {{"]
    for method in file.methods:
        answer = f"{'stream ' if method.is_stream else ''}PredictResponse"
        lines.append(_comment(method.about, "  ") + f"  rpc {method.name}(PredictRequest) returns ({answer});")
    return "\n".join(lines) + "\n}"


def _message(message: ProtoMessage) -> str:
    lines = [_comment([message.about]) + f"message {message.name} {{"]
    if message.has_json_conflicts:
        lines.append("  option deprecated_legacy_json_field_conflicts = true;")
    if message.choice:
        lines.append(f"  oneof {message.choice} {{")
    lines += [_field(f, "    " if message.choice else "  ") for f in message.fields]
    if message.choice:
        lines.append("  }")
    return "\n".join(lines) + "\n}"


def _field(field: ProtoField, indent: str) -> str:
    kind = {Label.MAP: f"map<string, {field.type}>", Label.CHOICE: field.type}.get(
        field.label, f"{field.label.value} {field.type}".strip()
    )
    json_name = field.json_name or field.name
    options = "" if default_json_name(field.name) == json_name else f' [json_name = "{json_name}"]'
    return f"{_comment(field.about, indent)}{indent}{kind} {field.name} = {field.number}{options};"


def _comment(texts: Iterable[str], indent: str = "") -> str:
    return "".join(f"{indent}// {line}\n" for line in comment_lines(texts, _WIDTH - len(indent)))


def comment_lines(texts: Iterable[str], width: int = _WIDTH) -> list[str]:
    """Return texts, whatever they contain, as printable lines of at most so many characters."""
    lines: list[str] = []
    for text in texts:
        for raw in text.splitlines():
            clean = " ".join("".join(c if c.isprintable() else " " for c in raw).split())
            lines += _wrapped(clean, width) if clean else []
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
