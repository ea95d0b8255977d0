"""Five ways to ask a Limen server for credit scores, each as short as it gets.

    client = OipBinary("127.0.0.1:8000")
    probability, decision, version = client.ask(records)

REST takes records (rows of named fields) or, in the Open Inference Protocol, tensors: one a field, as JSON or as raw bytes.
gRPC takes the same tensors, or messages with the contract's own fields. What may be left out is left out of all records or of none. The ways that take a model's name take one of its versions
as well: over REST `credit/versions/2`, everywhere `credit@challenger`. Nothing here needs Limen installed, except for the
generated gRPC modules; any client of the protocol, such as `tritonclient`, does the same.
"""

from __future__ import annotations

import http.client
import json
import struct
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import grpc
import numpy as np

from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc._generated.open_inference_pb2_grpc import GRPCInferenceServiceStub

Record = dict[str, Any]
MODEL = "credit"
DTYPES = {"FP32": np.dtype("<f4"), "INT32": np.dtype("<i4")}


class Answer(NamedTuple):
    """What the model says of each record."""

    probability: np.ndarray
    """Of default."""
    decision: list[str]
    version: str
    """Which one answered."""


class Refused(Exception):
    """The server did not take the request; holds what it says about it."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(body.get("error"))
        self.status = status
        self.body = body


class Client(Protocol):
    """One way to ask."""

    name: str

    def ask(self, records: list[Record]) -> Answer:
        """Return an answer for each record."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class Rest:
    """A connection to the REST server that stays open between requests."""

    def __init__(self, address: str, model: str = MODEL) -> None:
        self.model = model
        self._connection = http.client.HTTPConnection(address, timeout=30)

    def call(self, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        """GET or, with a body, POST."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("GET" if body is None else "POST", path, body, sent)
        response = self._connection.getresponse()
        if response.status != 200:
            raise Refused(response.status, json.load(response))
        return response

    def close(self) -> None:
        self._connection.close()


class Records(Rest):
    """`{"instances": [{"loan_amount": 6500, …}]}`, the dialect of TensorFlow Serving, KServe V1 and Vertex AI."""

    name = "REST records"

    def ask(self, records: list[Record]) -> Answer:
        body = json.dumps({"instances": records}).encode()
        response = self.call(f"/v1/models/{self.model}:predict", body, content_type="application/json")
        answer = json.load(response)
        rows = answer["predictions"]
        probability = np.array([row["default_probability"] for row in rows], np.float32)
        return Answer(probability, [row["decision"] for row in rows], answer["model_version"])


class OipJson(Rest):
    """The Open Inference Protocol with the tensors as JSON lists."""

    name = "OIP JSON"

    def __init__(self, address: str, model: str = MODEL) -> None:
        super().__init__(address, model)
        self._inputs = json.load(self.call(f"/v2/models/{model}"))["inputs"]

    def ask(self, records: list[Record]) -> Answer:
        inputs = [
            {"name": i["name"], "datatype": i["datatype"], "shape": [len(records)], "data": column(records, i["name"])}
            for i in self._inputs
            if i["name"] in records[0]
        ]
        body = json.dumps({"inputs": inputs}).encode()
        response = self.call(f"/v2/models/{self.model}/infer", body, content_type="application/json")
        answer = json.load(response)
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        probability = np.array(outputs["default_probability"], np.float32)
        return Answer(probability, outputs["decision"], answer["model_version"])


class OipBinary(OipJson):
    """The same with the tensors as raw bytes behind a short JSON header, in both directions."""

    name = "OIP binary"

    def ask(self, records: list[Record]) -> Answer:
        sent = [i for i in self._inputs if i["name"] in records[0]]
        blobs = [to_bytes(column(records, i["name"]), i["datatype"]) for i in sent]
        inputs = [
            i | {"shape": [len(records)], "parameters": {"binary_data_size": len(blob)}}
            for i, blob in zip(sent, blobs, strict=True)
        ]
        header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        response = self.call(
            f"/v2/models/{self.model}/infer",
            b"".join([header, *blobs]),
            content_type="application/octet-stream",
            inference_header_content_length=str(len(header)),
        )
        answer = json.loads(response.read(int(response.headers["inference-header-content-length"])))
        tensors = {o["name"]: response.read(o["parameters"]["binary_data_size"]) for o in answer["outputs"]}
        probability = np.frombuffer(tensors["default_probability"], "<f4")
        return Answer(probability, to_texts(tensors["decision"]), answer["model_version"])


class Grpc:
    """The Open Inference Protocol over gRPC."""

    name = "gRPC"

    def __init__(self, address: str, model: str = MODEL) -> None:
        self._model = model
        self._channel = grpc.insecure_channel(address)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._inputs = self._stub.ModelMetadata(pb.ModelMetadataRequest(name=model), timeout=30).inputs

    def ask(self, records: list[Record]) -> Answer:
        request = pb.ModelInferRequest(model_name=self._model)
        for i in self._inputs:
            if i.name not in records[0]:
                continue
            request.inputs.add(name=i.name, datatype=i.datatype, shape=[len(records)])
            request.raw_input_contents.append(to_bytes(column(records, i.name), i.datatype))
        response = self._stub.ModelInfer(request, timeout=30)
        names = [output.name for output in response.outputs]
        tensors = dict(zip(names, response.raw_output_contents, strict=True))
        probability = np.frombuffer(tensors["default_probability"], "<f4")
        return Answer(probability, to_texts(tensors["decision"]), response.model_version)

    def close(self) -> None:
        self._channel.close()


class Typed:
    """The model's own gRPC service, with the client that `limen client` wrote."""

    name = "typed gRPC"

    def __init__(self, address: str, written: ModuleType, version: str = "") -> None:
        self._client = written.GrpcClient(address, version=version, timeout_s=30)

    def ask(self, records: list[Record]) -> Answer:
        answer = self._client.predict(records)
        rows = answer.predictions
        probability = np.array([row["default_probability"] for row in rows], np.float32)
        return Answer(probability, [row["decision"] for row in rows], answer.model_version)

    def close(self) -> None:
        self._client.close()


def column(records: list[Record], name: str) -> list[Any]:
    """Return one field of all records."""
    return [record[name] for record in records]


def to_bytes(values: list[Any], datatype: str) -> bytes:
    """Return values as the protocol's raw bytes; every text comes after its length."""
    if datatype != "BYTES":
        return np.array(values, DTYPES[datatype]).tobytes()
    texts = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def to_texts(raw: bytes) -> list[str]:
    """Return the texts in raw bytes."""
    texts, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        texts.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return texts
