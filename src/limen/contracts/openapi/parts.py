"""Parts of the OpenAPI document shared by all models: errors, health, metadata. Used by `contracts.openapi.document`."""

from __future__ import annotations

from typing import Any, Final

from limen.contracts.names import REQUEST_ID
from limen.contracts.oip.parameters import MAX_PARAMETERS
from limen.contracts.openapi.jsonschema import Schema

ERROR_REF: Final = {"$ref": "#/components/schemas/Error"}


def _object(properties: dict[str, Any], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required}


_STRING: Final = {"type": "string"}
_STRINGS: Final = {"type": "array", "items": _STRING}
_READY: Final = {"type": "boolean"}
_PARAMETERS: Final = (
    "Values passed to the model. `timeout` (microseconds) and `priority` are the protocol's; its other names "
    "(`sequence_…`, `headers`, `triton_…`) are refused."
)

SCHEMAS: Final[dict[str, Schema]] = {
    "Error": _object(
        {
            "error": {"type": "string", "description": "A description of the error for people."},
            "code": {"type": "string", "description": "An error code for programs.", "examples": ["SHAPE_MISMATCH"]},
            "request_id": {"type": "string", "description": "Quote this id when you ask the operator for help."},
            "details": {
                "type": "array",
                "description": "Every mistake that was found.",
                "items": {"$ref": "#/components/schemas/Violation"},
            },
        },
        ["error", "code", "request_id"],
    ),
    "Violation": _object(
        {
            "path": {"type": "string", "description": "Where it is.", "examples": ["instances[3].amount"]},
            "reason": {"type": "string", "description": "What is allowed there.", "examples": ["must be ≥ 0"]},
        },
        ["path", "reason"],
    ),
    "Parameter": {"type": ["string", "number", "boolean"]},
    "Parameters": {
        "type": "object",
        "description": _PARAMETERS,
        "additionalProperties": {"$ref": "#/components/schemas/Parameter"},
        "maxProperties": MAX_PARAMETERS,
    },
    "InferParameters": {
        "type": "object",
        "description": _PARAMETERS,
        "properties": {
            "binary_data_output": {
                "type": "boolean",
                "description": "Return outputs without a setting of their own as raw bytes after the JSON.",
            },
            # Some clients write them whether they have them or not.
            "content_type": {"type": ["string", "number", "boolean", "null"]},
            "headers": {"type": "null"},
        },
        "additionalProperties": {"$ref": "#/components/schemas/Parameter"},
        "maxProperties": MAX_PARAMETERS,
    },
    "RequestId": {
        "type": "string",
        "description": "Your id for this request; echoed, and included in every log line about it. Generated if omitted.",
        "pattern": f"^{REQUEST_ID.pattern}$",
        "examples": ["order-1042"],
    },
    "Live": _object({"live": _READY}, ["live"]),
    "Ready": _object({"ready": _READY, "live": _READY}, ["ready"]),
    "ServerMetadata": _object({"name": _STRING, "version": _STRING, "extensions": _STRINGS}, ["name", "version"]),
    "ModelList": _object({"models": _STRINGS}, ["models"]),
    "ModelReady": _object({"name": _STRING, "ready": _READY}, ["name", "ready"]),
    "ModelMetadata": _object(
        {
            "name": _STRING,
            "versions": _STRINGS,
            "platform": _STRING,
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorMetadata"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorMetadata"}},
            "properties": {"type": "object", "additionalProperties": _STRING},
        },
        ["name", "platform", "inputs", "outputs"],
    ),
    "TensorMetadata": _object(
        {
            "name": _STRING,
            "datatype": _STRING,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}, "description": "-1 is variable."},
        },
        ["name", "datatype", "shape"],
    ),
    "ModelStatus": _object(
        {
            "model_version_status": {
                "type": "array",
                "items": _object(
                    {
                        "version": _STRING,
                        "state": {"enum": ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]},
                        "status": _object({"error_code": _STRING, "error_message": _STRING}, ["error_code"]),
                    },
                    ["version", "state", "status"],
                ),
            }
        },
        ["model_version_status"],
    ),
    "Contract": _object(
        {
            "name": _STRING,
            "inputs": {"type": "array", "items": _object({"name": _STRING, "type": _STRING}, ["name", "type"])},
            "outputs": {"type": "array", "items": _object({"name": _STRING, "type": _STRING}, ["name", "type"])},
        },
        ["name", "inputs", "outputs"],
    ),
}

_ERRORS: Final = {
    400: ("BadRequest", "The request breaks the protocol or the model's contract."),
    404: ("NotFound", "No such model or version."),
    405: ("MethodNotAllowed", "This path does not support that method; `Allow` lists the supported ones."),
    408: ("RequestTimeout", "The body did not arrive in time."),
    413: ("ContentTooLarge", "The body is over the limit of this server."),
    415: ("UnsupportedMediaType", "The body must be JSON (or the binary extension), plain or gzip or deflate encoded."),
    429: ("TooManyRequests", "A limit of the caller is reached."),
    500: ("InternalError", "A fault of the model or the server; the text reveals no internals."),
    501: ("NotImplemented", "A part of the protocol that this server or model does not support."),
    503: ("Unavailable", "Temporarily unavailable; retry after `Retry-After` seconds."),
    504: ("DeadlineExceeded", "The request missed its deadline."),
}
_HEADERS: Final = {
    405: {"Allow": {"description": "The methods this path supports.", "schema": _STRING}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": _STRING}},
    503: {"Retry-After": {"description": "Seconds to wait.", "schema": _STRING}},
}
RESPONSES: Final[dict[str, Any]] = {
    name: {
        "description": text,
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        "content": {"application/json": {"schema": ERROR_REF}},
    }
    for status, (name, text) in _ERRORS.items()
}


def errors(*statuses: int) -> dict[str, Any]:
    """Return the error responses of an operation by status."""
    return {str(s): {"$ref": f"#/components/responses/{_ERRORS[s][0]}"} for s in sorted(set(statuses))}


def ref(name: str) -> Schema:
    """Return a reference to a shared schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(name: str, text: str, *others: Schema) -> dict[str, Any]:
    """Return a JSON response whose body has the named schema, or one of `others`."""
    schema = {"anyOf": [ref(name), *others]} if others else ref(name)
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def document(media_type: str, kind: str) -> dict[str, Any]:
    """Return a response that is a document of a media type."""
    return {"description": "The document.", "content": {media_type: {"schema": {"type": kind}}}}
