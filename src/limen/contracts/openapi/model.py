"""The OpenAPI operations and schemas of one model. Used by `contracts.openapi.document`."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from limen.contracts.contract import Contract
from limen.contracts.openapi import parts
from limen.contracts.openapi import stream as streams
from limen.contracts.openapi.examples import contract_document, example_outputs, example_record, is_showable
from limen.contracts.openapi.jsonschema import Schema, input_record, output_record, value_schema
from limen.contracts.openapi.tensor_schema import (
    ID_REF,
    PARAMETERS_REF,
    infer_answer_example,
    infer_example,
    infer_request,
    infer_response,
    needs_binary,
)

_READ_ERRORS: Final = (400, 404, 405, 500, 503)
_CALL_ERRORS: Final = (400, 404, 405, 408, 413, 415, 429, 500, 501, 503, 504)


class ServedContract(msgspec.Struct, frozen=True):
    """One version of a model as a server offers it."""

    contract: Contract
    version: str
    platform: str
    """What OIP calls the platform, e.g. `onnx_onnxv1`."""
    can_stream: bool = False
    """Whether the model gives its answer in parts."""
    is_default: bool = False
    """Whether it answers requests that name no version."""


def model_schemas(served: ServedContract) -> dict[str, Schema]:
    """Return the schemas of one version, each under a name of its own."""
    contract = served.contract
    schemas = {
        "Input": input_record(contract),
        "Output": output_record(contract),
        "PredictRequest": _predict_request(served),
    }
    if served.can_stream:
        schemas |= {
            "StreamPart": streams.record_part(parts.ref(_name(served, "Output"))),
            "GenerateRequest": streams.generate_request(contract),
            "GenerateAnswer": streams.generate_answer(contract),
        }
    else:
        schemas |= {
            "PredictResponse": _predict_response(served),
            "InferRequest": infer_request(contract),
            "InferResponse": infer_response(contract),
        }
    return {_name(served, suffix): schema for suffix, schema in schemas.items()}


def model_paths(served: ServedContract, *, versioned: bool) -> dict[str, Any]:
    """Return the paths of one version: under its number, or as the model's default.

    A model that answers in a stream has its streaming calls here, and no others: those would be refused.
    """
    name = served.contract.name
    part = f"/versions/{served.version}" if versioned else ""
    v1, v2 = f"/v1/models/{name}{part}", f"/v2/models/{name}{part}"
    page = _Operations(served, versioned=versioned)
    status = parts.answer("ModelStatus", "The state of each version.")
    tensors = parts.answer("ModelMetadata", "Names, datatypes and shapes.")
    ready = page.get("ready", "Is it ready?", parts.answer("ModelReady", "It is."))
    ready["get"]["responses"]["503"] = parts.answer("ModelReady", "Not now.", parts.ERROR_REF)
    if served.can_stream:
        calls = {f"{v1}:stream": {"post": page.stream()}, f"{v2}/generate_stream": {"post": page.generate_stream()}}
    else:
        calls = {f"{v1}:predict": {"post": page.predict()}, f"{v2}/infer": {"post": page.infer()}}
    paths = {
        **calls,
        v1: page.get("status", "State", status),
        f"{v1}/metadata": page.get("metadata", "Tensors, as OIP describes them", tensors),
        v2: page.get("tensors", "Tensors", tensors),
        f"{v2}/ready": ready,
    }
    contract = parts.answer("Contract", "The contract.")
    contract["content"]["application/json"]["example"] = contract_document(served.contract)
    paths[f"{v1}/contract"] = page.get("contract", "Contract", contract)
    if not versioned:
        openapi, proto = parts.document("application/json", "object"), parts.document("text/plain", "string")
        paths[f"{v1}/openapi.json"] = page.get("openapi", "OpenAPI of this model", openapi)
        paths[f"{v1}.proto"] = page.get("proto", "Typed gRPC definition", proto)
    return paths


class _Operations:
    """Builds the operations of one version under one kind of path."""

    def __init__(self, served: ServedContract, *, versioned: bool) -> None:
        self._served = served
        self._contract = served.contract
        # Model names have no ':', so two models cannot share an operation.
        self._suffix = f":{served.contract.name}" + (f":{served.version}" if versioned else "")
        self._which = f"version {served.version}" if versioned else "the current version"

    def get(self, verb: str, summary: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Describe a GET that takes nothing."""
        return {"get": self._operation(verb, summary, {"200": answer, **parts.errors(*_READ_ERRORS)})}

    def predict(self) -> dict[str, Any]:
        """Describe the record call."""
        contract, version = self._contract, self._served.version
        request = answer = None
        if is_showable(contract):
            request = {"instances": [example_record(contract)]}
            outputs = [example_outputs(contract)]
            answer = {"predictions": outputs, "model_name": contract.name, "model_version": version}
        return self._call("predict", "Predict rows of named fields", "Predict", request, answer)

    def infer(self) -> dict[str, Any]:
        """Describe the tensor call."""
        request = answer = None
        if is_showable(self._contract):
            request = infer_example(self._contract)
            answer = infer_answer_example(self._contract, self._served.version)
        operation = self._call("infer", "Infer on tensors", "Infer", request, answer)
        operation["responses"]["200"]["content"]["application/octet-stream"] = {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "When outputs are requested as binary data: JSON, then the raw tensors in its order.",
            }
        }
        if needs_binary(self._contract):
            operation["description"] = "16-bit floats travel as raw bytes only: send and ask for binary tensor data."
            body = {"type": "string", "format": "binary", "description": "JSON, then the raw tensors in its order."}
            operation["requestBody"]["content"] = {"application/octet-stream": {"schema": body}}
        return operation

    def stream(self) -> dict[str, Any]:
        """Describe the record call that answers in parts."""
        contract = self._contract
        example, request = "", None
        if is_showable(contract):
            example = streams.events(streams.record_part_example(contract, self._served.version), is_ended=True)
            request = {"instances": [example_record(contract)]}
        answer = streams.record_events(parts.ref(_name(self._served, "StreamPart")), example)
        return self._post("stream", "Predict in parts, from rows of named fields", "PredictRequest", request, answer)

    def generate_stream(self) -> dict[str, Any]:
        """Describe Triton's call that answers in parts."""
        contract = self._contract
        example, request = "", None
        if is_showable(contract):
            example = streams.events(streams.generate_answer_example(contract, self._served.version), is_ended=False)
            request = streams.generate_example(contract)
        answer = streams.generate_events(parts.ref(_name(self._served, "GenerateAnswer")), example)
        return self._post("generateStream", "Generate in parts, from named inputs", "GenerateRequest", request, answer)

    def _call(
        self, verb: str, summary: str, kind: Literal["Predict", "Infer"], request: Any, answer: Any
    ) -> dict[str, Any]:
        content = {"schema": parts.ref(_name(self._served, f"{kind}Response"))}
        if answer is not None:
            content["example"] = answer
        ok = {"description": "The answer.", "content": {"application/json": content}}
        return self._post(verb, summary, f"{kind}Request", request, ok)

    def _post(self, verb: str, summary: str, schema: str, request: Any, ok: dict[str, Any]) -> dict[str, Any]:
        example = self._contract.examples[0].name if self._contract.examples else ""
        body = {"schema": parts.ref(_name(self._served, schema))}
        if request is not None:
            body["examples"] = {"example": {"summary": example or "One row", "value": request}}
        operation = self._operation(verb, summary, {"200": ok, **parts.errors(*_CALL_ERRORS)})
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
        return operation

    def _operation(self, verb: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
        return {
            "operationId": f"{verb}{self._suffix}",
            "tags": [self._contract.name],
            "summary": f"{summary} ({self._which})",
            "responses": responses,
        }


def _name(served: ServedContract, suffix: str) -> str:
    return f"{served.contract.name}.v{served.version}.{suffix}"


def _predict_request(served: ServedContract) -> Schema:
    contract = served.contract
    row = parts.ref(_name(served, "Input"))
    if len(contract.inputs) == 1:
        # A model with one input also takes the bare value in place of the record.
        row = {"anyOf": [row, value_schema(contract.inputs[0])]}
    return {
        "type": "object",
        "properties": {
            "instances": {
                "type": "array",
                "items": row,
                "minItems": 1,
                "maxItems": contract.batching.max_request_rows,
                "description": "The rows, one prediction for each.",
            },
            "parameters": PARAMETERS_REF,
            "id": ID_REF,
            "signature_name": {"type": "string", "description": "Accepted for compatibility; there is one signature."},
        },
        "required": ["instances"],
        "additionalProperties": False,
    }


def _predict_response(served: ServedContract) -> Schema:
    return {
        "type": "object",
        "properties": {
            "predictions": {"type": "array", "items": parts.ref(_name(served, "Output"))},
            "model_name": {"const": served.contract.name},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
        },
        "required": ["predictions", "model_name", "model_version"],
    }
