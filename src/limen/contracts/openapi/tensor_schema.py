"""The Open Inference Protocol's JSON bodies for one contract, as JSON Schema: its tensors with their names, types and sizes.

JSON Schema cannot say that `data` holds as many elements as the product of `shape`, nor that all inputs have equally many
rows. So requests of one and of two rows are spelled out in full, with inputs and outputs in the contract's order; the text
says that more rows and any order are taken too. Nor can it count the bytes of a text, as the limits of a bytes field do.
Otherwise, what the schema allows the server accepts, which lets tools generate requests.
Called by `contracts.openapi.document`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Final

from limen.contracts.contract import Contract, Field, Json
from limen.contracts.oip import content_types
from limen.contracts.openapi.examples import example_outputs, example_record, example_value, shape_of, tensor_value
from limen.contracts.openapi.jsonschema import Schema, element_schema, or_null
from limen.contracts.tensors import Kind

ROWS_SHOWN: Final = (1, 2)
"""Request sizes that the schema spells out."""
PARAMETERS_REF: Final = {"$ref": "#/components/schemas/Parameters"}
INFER_PARAMETERS_REF: Final = {"$ref": "#/components/schemas/InferParameters"}
ID_REF: Final = {"$ref": "#/components/schemas/RequestId"}


_CONTENT: Final[Schema] = {
    "content_type": {
        "enum": [*content_types.PLAIN, None],
        "description": "Accepted for MLServer clients. `base64` says that the elements of BYTES are Base64 text.",
    },
    "headers": {"type": "null"},
}


def infer_request(contract: Contract) -> Schema:
    """Return the schema of an inference request with JSON tensors."""
    limit = contract.batching.max_request_rows
    leads: list[tuple[int, ...]] = [(rows,) for rows in ROWS_SHOWN if rows <= limit]
    about = (
        "Tensors by name, row-major, with the batch as the first axis. Spelled out here for one and two rows in the "
        f"contract's order; up to {limit} rows and any order of the inputs are accepted. `data` may be flat or nested."
    )
    if not contract.batching.is_batched:
        leads = [()]
        about = (
            "Tensors by name, row-major, without a batch axis: a request is one run of the model. Spelled out here in the "
            "contract's order; any order of the inputs is accepted. `data` may be flat or nested."
        )
    return {
        "type": "object",
        "description": about,
        "properties": {
            # Some clients always send one, empty when they have none.
            "id": {"anyOf": [ID_REF, {"enum": ["", None]}]},
            "model_name": {"enum": [contract.name, "", None], "description": "Not needed: the path names the model."},
            "parameters": {"anyOf": [INFER_PARAMETERS_REF, {"type": "null"}]},
            "inputs": {"anyOf": [_inputs(contract.inputs, lead) for lead in leads]},
            "outputs": _requested(contract.outputs),
        },
        "required": ["inputs"],
        "additionalProperties": False,
    }


def infer_response(contract: Contract) -> Schema:
    """Return the schema of an inference answer with JSON tensors."""
    batch: list[Schema] = [{"type": "integer", "minimum": 0}] if contract.batching.is_batched else []
    tensors = [_answer_tensor(f, batch) for f in contract.outputs]
    tensors += [_classes_tensor(f, batch) for f in contract.outputs if _can_classify(f)]
    return {
        "type": "object",
        "properties": {
            "model_name": {"const": contract.name},
            "model_version": {"type": "string"},
            "id": ID_REF,
            "parameters": PARAMETERS_REF,
            "outputs": {"type": "array", "items": {"anyOf": tensors}},
        },
        "required": ["model_name", "model_version", "outputs"],
    }


def infer_example(contract: Contract) -> Json:
    """Return an inference request of one row made from the contract's examples."""
    record = example_record(contract)
    # A missing value has no form that every datatype shares, so the example shows a present one.
    present = {f.name: example_value(f) if record[f.name] is None else record[f.name] for f in contract.inputs}
    return {"inputs": [example_tensor(contract, f, present[f.name]) for f in contract.inputs]}


def infer_answer_example(contract: Contract, version: str) -> Json:
    """Return the answer to `infer_example`."""
    outputs = example_outputs(contract)
    tensors = [example_tensor(contract, f, outputs[f.name]) for f in contract.outputs]
    return {"model_name": contract.name, "model_version": version, "outputs": tensors}


def needs_binary(contract: Contract) -> bool:
    """Return whether the model has tensors that JSON cannot carry: 16-bit floats travel as raw bytes only."""
    return any(map(_is_binary_only, (*contract.inputs, *contract.outputs)))


def flat(value: Json) -> list[Json]:
    """Return the elements of nested lists in row-major order."""
    return [element for item in value for element in flat(item)] if isinstance(value, list) else [value]


def _inputs(fields: Sequence[Field], lead: tuple[int, ...]) -> Schema:
    # Inputs may be left out from the end as far as they are optional; none may follow.
    least = max((i for i, f in enumerate(fields, 1) if f.is_required), default=1)
    return {
        "type": "array",
        "title": {(): "One run", (1,): "One row"}.get(lead) or f"{lead[0]} rows",
        "prefixItems": [_input_tensor(f, lead) for f in fields],
        "items": False,
        "minItems": least,
        "maxItems": len(fields),
    }


def _input_tensor(field: Field, lead: tuple[int, ...]) -> Schema:
    shape = [*lead, *_sizes(field)]
    return {
        "type": "object",
        "properties": {
            "name": {"const": field.wire_name},
            "shape": {"const": shape},
            "datatype": {"const": field.datatype},
            # Another parameter of an input, binary_data_size, takes the place of data.
            "parameters": {"type": ["object", "null"], "properties": _CONTENT, "additionalProperties": False},
            "data": _data(_input_element(field), shape),
        },
        "required": ["name", "shape", "datatype", "data"],
        "additionalProperties": False,
    }


def _input_element(field: Field) -> Schema:
    schema = element_schema(field, as_text=True)
    kind = field.element.kind
    # null is NaN in a float tensor and None in a BYTES one; the other datatypes have no missing value.
    missing = field.nullable or not field.finite if kind is Kind.FLOAT else field.nullable and not field.element.size
    return or_null(schema) if missing else schema


def _is_binary_only(field: Field) -> bool:
    return field.is_float and field.element.size == 2


def _sizes(field: Field) -> tuple[int, ...]:
    """Return the field's shape with the sizes of its example on the variable axes."""
    if all(d >= 0 for d in field.shape):
        return field.shape
    return shape_of(example_value(field), len(field.shape)) or field.shape


def _data(element: Schema, shape: Sequence[int]) -> Schema:
    count = math.prod(shape)
    one_list: Schema = {"type": "array", "items": element, "minItems": count, "maxItems": count}
    if len(shape) <= 1:
        return one_list
    nested = element
    for size in reversed(shape):
        nested = {"type": "array", "items": nested, "minItems": size, "maxItems": size}
    return {"anyOf": [one_list, nested]}


def _requested(fields: Sequence[Field]) -> Schema:
    """Describe the outputs to give: all when left out or empty, else each at most once."""
    tails = [
        {"type": "array", "prefixItems": [_requested_output(f) for f in fields[i:]], "items": False, "minItems": 1}
        for i in range(len(fields))
    ]
    return {
        "description": "Outputs to return, each at most once; all by default.",
        "anyOf": [
            {"type": ["array", "null"], "maxItems": 0},
            *({**t, "maxItems": len(fields) - i} for i, t in enumerate(tails)),
        ],
    }


def _requested_output(field: Field) -> Schema:
    known: Schema = {
        "binary_data": {"type": "boolean", "description": "Return this output as raw bytes after the JSON."},
    }
    if _can_classify(field):
        known["classification"] = {
            "type": "integer",
            "minimum": 1,
            "maximum": (1 << 31) - 1,
            "description": "Return the N best classes as `value:index:label` instead of the values.",
        }
    return {
        "type": "object",
        "properties": {
            "name": {"const": field.wire_name},
            "parameters": {"type": ["object", "null"], "properties": known | _CONTENT, "additionalProperties": False},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def _can_classify(field: Field) -> bool:
    return field.element.kind in {Kind.INT, Kind.FLOAT} and not _is_binary_only(field)


def _answer_tensor(field: Field, batch: list[Schema]) -> Schema:
    element = element_schema(field, as_text=True, answer=True)
    if field.nullable:
        element = or_null(element)
    sizes = [*batch, *({"const": d} if d >= 0 else {"type": "integer", "minimum": 0} for d in field.shape)]
    return {
        "type": "object",
        "properties": {
            "name": {"const": field.wire_name},
            "datatype": {"const": field.datatype},
            # A list of no schemas is not allowed.
            "shape": {"type": "array", "items": False, "minItems": len(sizes)}
            | ({"prefixItems": sizes} if sizes else {}),
            "parameters": PARAMETERS_REF,
            "data": {"type": "array", "items": element},
        },
        "required": ["name", "datatype", "shape", "data"],
    }


def _classes_tensor(field: Field, batch: list[Schema]) -> Schema:
    axes = len(batch) + 1
    return {
        "type": "object",
        "title": "Best classes",
        "properties": {
            "name": {"const": field.wire_name},
            "datatype": {"const": "BYTES"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": axes, "maxItems": axes},
            "parameters": PARAMETERS_REF,
            "data": {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:[0-9]+"}},
        },
        "required": ["name", "datatype", "shape", "data"],
    }


def example_tensor(contract: Contract, field: Field, value: Json) -> Json:
    """Return the tensor of one value of a field."""
    batch = [1] if contract.batching.is_batched else []
    value = tensor_value(field, value)
    shape = shape_of(value, len(field.shape)) or ()
    data = flat(value)
    if field.element.kind is Kind.BINARY:
        data = [_as_text(item) for item in data]
    return {"name": field.wire_name, "datatype": field.datatype, "shape": [*batch, *shape], "data": data}


def _as_text(content: Json) -> str:
    """Return base64 content as OIP's JSON carries bytes: as plain text, if it is any."""
    try:
        return base64.b64decode(content).decode()
    except ValueError:
        return "example"
