"""Schemas and examples of one model's streaming calls. Used by `contracts.openapi.model` and the docs page.

An answer is a stream of server-sent events, for which OpenAPI has words only since 3.2. As tools do before that, the schema of such a
body is that of one event: its type (`message` when it says none), and its data as text that holds JSON.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

import msgspec

from limen.contracts.contract import Contract, Field, Json
from limen.contracts.openapi.examples import example_outputs, example_record, example_value
from limen.contracts.openapi.jsonschema import Schema, element_schema, or_null, value_schema
from limen.contracts.openapi.parts import ERROR_REF
from limen.contracts.openapi.tensor_schema import ID_REF, PARAMETERS_REF, flat

EVENTS: Final = "text/event-stream"
_END: Final = "event: end\ndata: {}\n\n"


def generate_request(contract: Contract) -> Schema:
    """Return the schema of a generate body: the inputs of one row by name, flat, and what else may stand beside them."""
    names = [field.wire_name for field in contract.inputs]
    properties: dict[str, Schema] = {
        "id": ID_REF,
        # An input among the parameters is as good as one beside them, but not both.
        "parameters": {"allOf": [PARAMETERS_REF, {"propertyNames": {"not": {"enum": names}}}]},
    }
    properties |= {field.wire_name: _generate_value(field, answer=False) for field in contract.inputs}
    return {
        "type": "object",
        "description": (
            "The inputs of one row under their own names: a value, or a list, flat in row-major order or nested. Any other key is "
            "taken as if it stood in `parameters`."
        ),
        "properties": properties,
        "required": [field.wire_name for field in contract.inputs if field.is_required],
        "additionalProperties": {"$ref": "#/components/schemas/Parameter"},
    }


def generate_answer(contract: Contract) -> Schema:
    """Return the schema of one answer to a generate call."""
    outputs = {field.wire_name: _generate_value(field, answer=True) for field in contract.outputs}
    return {
        "type": "object",
        "properties": {
            "id": ID_REF,
            "model_name": {"const": contract.name},
            "model_version": {"type": "string"},
            **outputs,
        },
        "required": ["model_name", "model_version", *outputs],
    }


def record_part(output: Schema) -> Schema:
    """Return the schema of one part of a record stream; `output` is that of a row."""
    return {
        "type": "object",
        "properties": {
            "predictions": {"type": "array", "items": output},
            "model_version": {"type": "string"},
            "fallback": {"type": "string", "description": "Present when the model did not answer itself."},
        },
        "required": ["predictions", "model_version"],
    }


def generate_example(contract: Contract) -> dict[str, Json]:
    """Return a generate body made from the contract's examples."""
    record = example_record(contract)
    given = {f.wire_name: example_value(f) if record[f.name] is None else record[f.name] for f in contract.inputs}
    nested = {f.wire_name for f in contract.inputs if _is_nested(f)}
    return {name: value if name in nested else _unwrapped(value) for name, value in given.items()}


def generate_answer_example(contract: Contract, version: str) -> dict[str, Json]:
    """Return what one answer to `generate_example` looks like."""
    values = example_outputs(contract)
    outputs = {field.wire_name: _unwrapped(values[field.name]) for field in contract.outputs}
    return {"model_name": contract.name, "model_version": version, **outputs}


def record_part_example(contract: Contract, version: str) -> dict[str, Json]:
    """Return what one part of a record stream looks like."""
    return {"predictions": [example_outputs(contract)], "model_version": version}


def events(part: Json, *, is_ended: bool) -> str:
    """Return a stream of one part as it travels; one of records says when it has ended."""
    return f"data: {msgspec.json.encode(part).decode()}\n\n{_END if is_ended else ''}"


def record_events(part: Schema, example: str) -> dict[str, Any]:
    """Return the response that is a stream of parts, one event of its own for its end and one for an error."""
    end = {"type": "object", "properties": {"event": {"const": "end"}, "data": {"const": "{}"}}, "required": ["data"]}
    schema = {"anyOf": [_event("message", part), end, _event("error", ERROR_REF)]}
    text = "The parts, in order. The event `end` completes an answer; `error` ends one that failed."
    return _streamed(text, schema, example)


def generate_events(part: Schema, example: str) -> dict[str, Any]:
    """Return the response that is a stream of parts of which the last may be an error."""
    schema = _event("message", {"anyOf": [part, ERROR_REF]})
    text = "The parts, in order. An answer that fails ends with an error."
    return _streamed(text, schema, example)


def _streamed(text: str, schema: Schema, example: str) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if example:
        content["example"] = example
    return {"description": text, "content": {EVENTS: content}}


def _event(name: str, data: Schema) -> Schema:
    content = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return {"type": "object", "properties": {"event": {"const": name}, "data": content}, "required": ["data"]}


def _generate_value(field: Field, *, answer: bool) -> Schema:
    element = element_schema(field, answer=answer)
    if answer:
        return _flat(field, or_null(element) if field.nullable else element)
    found = value_schema(field) if _is_nested(field) else _flat(field, element)
    if not field.nullable:
        return found
    return {"anyOf": [*found["anyOf"], {"type": "null"}]} if "anyOf" in found else or_null(found)


def _flat(field: Field, element: Schema) -> Schema:
    """Return the schema of a flat list, or of the one value that it may hold."""
    if field.is_scalar:
        return element
    size = prod(d for d in field.shape if d > 0)
    several: Schema = {"type": "array", "items": element}
    if all(d > 0 for d in field.shape):
        several |= {"minItems": size, "maxItems": size}
    return {"anyOf": [several, element]} if size == 1 else several


def _is_nested(field: Field) -> bool:
    """Return whether the size of a flat list has no word in JSON Schema, which cannot say "a multiple of"."""
    return len(field.shape) > 1 and any(d < 0 for d in field.shape)


def _unwrapped(value: Json) -> Json:
    if isinstance(value, dict):
        return value
    values = flat(value)
    return values[0] if len(values) == 1 else values
