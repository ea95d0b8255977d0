"""Copyable commands that call a model with curl, grpcurl and Python. Plain text; used by `docs.page`."""

from __future__ import annotations

import base64
import json
import shlex
from typing import Final

import numpy as np

from limen.contracts.contract import Contract, Field, Json
from limen.contracts.oip.wire import encode_raw
from limen.contracts.openapi.document import ServedContract
from limen.contracts.openapi.examples import (
    example_outputs,
    example_record,
    example_value,
    is_showable,
    shape_of,
    tensor_value,
    values_of_a_row,
)
from limen.contracts.openapi.stream import events, generate_example, record_part_example
from limen.contracts.openapi.tensor_schema import example_tensor, flat, infer_example
from limen.contracts.proto.schema import carries_shape, proto_file
from limen.contracts.tensors import Kind

_WIDTH: Final = 104
"""Characters of a line, as many as the page shows without scrolling on a desk."""
_CONTENTS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where each datatype goes in an OIP message; FP16 and BF16 travel as raw bytes only."""


def too_large(served: ServedContract) -> str:
    """Return what to say in place of examples when a row has too many values to be written out; empty when it has not."""
    if is_showable(served.contract):
        return ""
    count = f"{values_of_a_row(served.contract):,}"
    return (
        f"A row and its answer hold {count} values, too many to show. Send tensors as raw bytes: with the binary tensor data "
        "extension over REST, or over gRPC."
    )


def curl_records(served: ServedContract, base_url: str, path: str) -> str:
    """Return the curl command of a record call."""
    return _curl(f"{base_url}{path}", {"instances": [example_record(served.contract)]})


def answer(served: ServedContract) -> str:
    """Return the JSON that the record calls answer with."""
    body = {
        "predictions": [example_outputs(served.contract)],
        "model_name": served.contract.name,
        "model_version": served.version,
    }
    return pretty(body)


def has_golden_answer(served: ServedContract) -> bool:
    """Return whether the answer of `answer` is one that the owner gave."""
    return bool(served.contract.examples and served.contract.examples[0].outputs)


def curl_tensors(served: ServedContract, base_url: str, path: str) -> str:
    """Return the curl command of an OIP call."""
    return _curl(f"{base_url}{path}", infer_example(served.contract))


def curl_stream(served: ServedContract, base_url: str, path: str) -> str:
    """Return the curl command of a record call that is answered in parts."""
    return _curl(f"{base_url}{path}", {"instances": [example_record(served.contract)]}, option=" -N")


def stream_answer(served: ServedContract) -> str:
    """Return the events that such a call answers with, if there is one part."""
    return events(record_part_example(served.contract, served.version), is_ended=True).rstrip()


def curl_generate(served: ServedContract, base_url: str, path: str) -> str:
    """Return the curl command of a generate call that is answered in parts."""
    return _curl(f"{base_url}{path}", generate_example(served.contract), option=" -N")


def grpcurl(served: ServedContract, grpc_target: str) -> str:
    """Return the grpcurl command of an OIP call."""
    fields = served.contract.inputs
    record = example_record(served.contract)
    values = {f.name: example_value(f) if record[f.name] is None else record[f.name] for f in fields}
    raw = any(f.datatype not in _CONTENTS for f in fields)
    tensors = [_message_tensor(served.contract, f, values[f.name], raw=raw) for f in fields]
    message: dict[str, Json] = {
        "model_name": served.contract.name,
        "model_version": served.version,
        "inputs": tensors,
    }
    if raw:
        message["raw_input_contents"] = [_raw(f, values[f.name]) for f in fields]
    method = "ModelStreamInfer" if served.can_stream else "ModelInfer"
    return (
        f"grpcurl -plaintext -d {shlex.quote(pretty(message))} \\\n"
        f"  {shlex.quote(grpc_target)} inference.GRPCInferenceService/{method}"
    )


def grpcurl_records(served: ServedContract, grpc_target: str) -> str:
    """Return the grpcurl command of a call to the model's own service."""
    contract = served.contract
    record = example_record(contract)
    row = {f.name: _message_value(f, record[f.name]) for f in contract.inputs if record[f.name] is not None}
    method = "PredictStream" if served.can_stream else "Predict"
    return (
        f"grpcurl -plaintext -d {shlex.quote(pretty({'instances': [row]}))} \\\n"
        f"  {shlex.quote(grpc_target)} {proto_file(contract).full_service}/{method}"
    )


def python(served: ServedContract, base_url: str, path: str) -> str:
    """Return a Python program that makes a record call with the standard library."""
    fields = example_record(served.contract).items()
    record = "".join(f"    {json.dumps(name)}: {_literal(value)},\n" for name, value in fields)
    return (
        "import json\n"
        "from urllib.request import Request, urlopen\n\n"
        f"record = {{\n{record}}}\n"
        "request = Request(\n"
        f"    {json.dumps(base_url + path)},\n"
        '    data=json.dumps({"instances": [record]}).encode(),\n'
        '    headers={"Content-Type": "application/json"},\n'
        ")\n"
        "with urlopen(request, timeout=10) as response:\n"
        '    print(json.load(response)["predictions"][0])\n'
    )


def pretty(value: Json, indent: int = 0) -> str:
    """Return JSON for people: one line where it fits, lists of plain values always on one."""
    line = json.dumps(value, ensure_ascii=False)
    plain = isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value)
    if plain or not isinstance(value, (list, dict)) or len(line) + indent <= _WIDTH:
        return line
    inner = " " * (indent + 2)
    if isinstance(value, list):
        items = [f"{inner}{pretty(item, indent + 2)}" for item in value]
        return "[\n" + ",\n".join(items) + f"\n{' ' * indent}]"
    items = [f"{inner}{json.dumps(key)}: {pretty(item, indent + 2)}" for key, item in value.items()]
    return "{\n" + ",\n".join(items) + f"\n{' ' * indent}}}"


def _curl(url: str, body: Json, option: str = "") -> str:
    return f"curl{option} {shlex.quote(url)} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(pretty(body))}"


def _literal(value: Json) -> str:
    """Return a JSON value as Python writes it, with double quotes."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _message_value(field: Field, value: Json) -> Json:
    """Return a field of a record as the JSON form of a typed message has it."""
    value = tensor_value(field, value)
    if carries_shape(field):
        return {"shape": list(shape_of(value, len(field.shape)) or ()), "values": flat(value)}
    return flat(value) if field.shape else value


def _message_tensor(contract: Contract, field: Field, value: Json, *, raw: bool) -> dict[str, Json]:
    tensor: dict[str, Json] = example_tensor(contract, field, value)
    del tensor["data"]
    if not raw:
        # The JSON form of a message has bytes as base64, which is what a record's bytes are already.
        encode = field.element.kind is Kind.TEXT
        found = flat(tensor_value(field, value))
        data = [base64.b64encode((item or "").encode()).decode() if encode else item for item in found]
        tensor["contents"] = {_CONTENTS[field.datatype]: data}
    return tensor


def _raw(field: Field, value: Json) -> str:
    """Return a tensor as base64 of its raw bytes."""
    data = flat(tensor_value(field, value))
    if field.element.kind is Kind.BINARY:
        data = [base64.b64decode(item) for item in data]
    array = np.empty(len(data), field.element.dtype)
    array[:] = ["" if item is None and field.is_json else item for item in data]
    return base64.b64encode(encode_raw(array)).decode()
