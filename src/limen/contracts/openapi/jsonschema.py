"""JSON Schema 2020-12 for the values of a contract: the record API's inputs and outputs, as exactly as JSON Schema allows.

Not here: the checks themselves (`contracts.validation.records`, `contracts.validation.tensors`) and the schemas of whole requests
(`contracts.openapi.document`, `contracts.openapi.tensor_schema`). Two rules cannot be said in JSON Schema: that nested lists of a variable
size must not be ragged, and that such a field has the same size in every record of a request.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Final

from limen.contracts.contract import Contract, Field, Sensitivity
from limen.contracts.tensors import Kind

Schema = dict[str, Any]
"""A JSON Schema, ready for JSON."""

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_JSON_TYPES: Final = {
    Kind.BOOL: "boolean",
    Kind.INT: "integer",
    Kind.FLOAT: "number",
    Kind.TEXT: "string",
    Kind.BINARY: "string",
}
_ANY: Final = ("string", "number", "boolean", "object", "array")
_FLOAT_FORMATS: Final = {"float32": "float", "float64": "double"}
_OVERFLOW: Final = {"float16": 65520.0, "bfloat16": 3.396177427818412e38, "float32": 3.4028235677973366e38}
"""The first values that round to infinity in the narrow types. In float64 every JSON number that is one fits."""
_TAG: Final = re.compile(r"<(?=[A-Za-z/!?])")


def prose(text: str) -> str:
    """Return an owner's text for a document whose readers may render Markdown: what looks like an HTML tag is inert."""
    return _TAG.sub("&lt;", text)


def element_schema(field: Field, *, as_text: bool = False, answer: bool = False) -> Schema:
    """Return the schema of one element of the field.

    Args:
        field: the field.
        as_text: bytes travel as plain text (OIP JSON) and not as base64 (records).
        answer: the value comes from the model: no bounds of the number type, and null for what is not finite.
    """
    kind = field.element.kind
    schema: Schema = {"type": _JSON_TYPES[kind]}
    if field.is_json:
        return {"type": "string", "contentMediaType": "application/json"} if as_text else {"type": list(_ANY)}
    if kind is Kind.INT:
        schema |= {"format": field.type, **_whole_bounds(field)}
    elif kind is Kind.FLOAT:
        schema |= {"format": _FLOAT_FORMATS.get(field.type, field.type), **_bounds(field, answer=answer)}
    elif kind is Kind.TEXT:
        schema |= _lengths(field)
        if field.pattern is not None:
            schema["pattern"] = field.pattern
    elif kind is Kind.BINARY:
        schema |= _lengths(field) if as_text else {"contentEncoding": "base64", "pattern": _base64_pattern(field)}
    if field.enum is not None and kind is not Kind.BINARY:
        schema = {"type": schema["type"], "enum": list(field.enum)}
    if field.is_blank_missing and not answer:
        schema = _or_blank(schema)
    return or_null(schema) if answer and kind is Kind.FLOAT and not field.finite else schema


def value_schema(field: Field, *, answer: bool = False) -> Schema:
    """Return the schema of the field's value in one record, without its documentation."""
    schema = element_schema(field, answer=answer)
    if field.nullable:
        # A missing value may be any element, not only the whole.
        schema = or_null(schema)
    for size in reversed(field.shape):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return or_null(schema) if field.nullable else schema


def field_schema(field: Field, *, answer: bool = False) -> Schema:
    """Return the schema of the field's value in one record with title, description, unit, default and examples."""
    schema = value_schema(field, answer=answer)
    if field.title:
        schema["title"] = prose(field.title)
    unit = f"Unit: {field.unit}." if field.unit else ""
    labels = f"One value for each of: {', '.join(field.labels)}." if field.labels and field.shape else ""
    description = " ".join(filter(None, (prose(field.description), prose(unit), prose(labels))))
    if description:
        schema["description"] = description
    if field.unit:
        schema["x-unit"] = field.unit
    schema["x-sensitivity"] = field.sensitivity.value
    if field.sensitivity is not Sensitivity.SECRET:
        if field.has_default:
            schema["default"] = field.default
        if field.examples:
            schema["examples"] = list(field.examples)
    return schema


def input_record(contract: Contract) -> Schema:
    """Return the schema of one record that the model takes."""
    return _record(contract.inputs, [f.name for f in contract.inputs if f.is_required], answer=False)


def output_record(contract: Contract) -> Schema:
    """Return the schema of one record that the model answers with."""
    return _record(contract.outputs, [f.name for f in contract.outputs], answer=True)


def record_schemas(contract: Contract) -> Schema:
    """Return one stand-alone JSON Schema document with the definitions `Input` and `Output` of the contract."""
    return {
        "$schema": DIALECT,
        "title": prose(contract.title or contract.name),
        "$defs": {"Input": input_record(contract), "Output": output_record(contract)},
    }


def _or_blank(schema: Schema) -> Schema:
    """Return the schema of a text with the empty one allowed as well."""
    limits = {key: value for key, value in schema.items() if key != "type"}
    if "enum" in limits:
        return {**schema, "enum": [*limits["enum"], ""]}
    return {"type": schema["type"], "anyOf": [limits, {"type": schema["type"], "maxLength": 0}]} if limits else schema


def or_null(schema: Schema) -> Schema:
    """Return the schema with null allowed as well."""
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "null" in types:
        return schema
    found = {**schema, "type": [*types, "null"]}
    if "enum" in found:
        found["enum"] = [*found["enum"], None]
    return found


def _record(fields: Sequence[Field], required: list[str], *, answer: bool) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": {f.name: field_schema(f, answer=answer) for f in fields},
        "required": required,
    }
    # A later version of the same major may answer with more outputs.
    return schema if answer else schema | {"additionalProperties": False}


def _whole_bounds(field: Field) -> Schema:
    low, high = field.element.low, field.element.high
    return {
        "minimum": low if field.minimum is None else max(low, math.ceil(field.minimum)),
        "maximum": high if field.maximum is None else min(high, math.floor(field.maximum)),
    }


def _bounds(field: Field, *, answer: bool) -> Schema:
    overflow = None if answer else _OVERFLOW.get(field.type)
    bounds: Schema = {}
    if field.minimum is not None:
        bounds["minimum"] = field.minimum
    elif overflow is not None:
        bounds["exclusiveMinimum"] = -overflow
    if field.maximum is not None:
        bounds["maximum"] = field.maximum
    elif overflow is not None:
        bounds["exclusiveMaximum"] = overflow
    return bounds


def _lengths(field: Field) -> Schema:
    limits = (("minLength", field.min_length), ("maxLength", field.max_length))
    return {key: value for key, value in limits if value is not None}


def _base64_pattern(field: Field) -> str:
    """Return the pattern of base64 text whose content keeps the field's length limits, which count bytes."""
    low, high = field.min_length or 0, field.max_length
    forms: list[str] = []
    for tail, form in enumerate(("", "[A-Za-z0-9+/]{2}==", "[A-Za-z0-9+/]{3}=")):
        most = "" if high is None else str((high - tail) // 3)
        if most.startswith("-"):
            continue
        least = max(0, -(-(low - tail) // 3))
        if most and least > int(most):
            continue
        forms.append(f"(?:[A-Za-z0-9+/]{{4}}){{{least},{most}}}{form}")
    return f"^(?:{'|'.join(forms)})$"
