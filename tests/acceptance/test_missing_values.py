"""A missing value is one thing, however a caller writes it and whichever way it comes in; where none is allowed, the field is named."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pandas as pd
import pytest

from limen.client import Client
from limen.client._generated import open_inference_pb2 as pb
from limen.contracts.errors import InvalidArgument
from limen.contracts.oip.wire import encode_raw
from tests.acceptance.test_typed_clients import client_module
from tests.services.process import Server, limen, serving

MANIFEST = """
name: gaps
backend: python
artifact: model.py:Gaps
inputs:
  - {name: x, type: float64, nullable: true}
  - {name: home, type: string, nullable: true, enum: [own, rent]}
  - {name: note, type: string, nullable: true, min_length: 0}
  - {name: v, type: float32, shape: [2], nullable: true}
  - {name: n, type: int64}
outputs: [{name: saw, type: string}]
examples:
  - {inputs: {x: .nan, home: "", note: "", v: [null, 1.0], n: 1}, outputs: {saw: "nan none text nan 1.0"}}
"""
MODEL = """
import numpy as np

class Gaps:
    def predict(self, inputs):
        word = {None: "none", "": "text"}
        rows = zip(inputs["x"], inputs["home"], inputs["note"], inputs["v"])
        said = [f"{x} {word.get(h, h)} {word.get(t, t)} {v[0]} {v[1]}" for x, h, t, v in rows]
        return {"saw": np.array(said, object)}
"""
SEEN = "nan none none nan 1.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gaps")
    (folder / "gaps").mkdir()
    (folder / "gaps" / "model.yaml").write_text(MANIFEST)
    (folder / "gaps" / "model.py").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder / "gaps", "--trust-code", "--home", folder / "home", announcement=folder / "a.json") as server:
        yield server


def ask_json(server: Server, row: dict[str, Any]) -> list[str]:
    answer = server.http.post("/v1/models/gaps:predict", json={"instances": [row]})
    if answer.status_code != 200:
        raise InvalidArgument(answer.text)
    return [p["saw"] for p in answer.json()["predictions"]]


@pytest.mark.parametrize(
    "row",
    [
        {"x": None, "home": None, "note": None, "v": [None, 1.0], "n": 1},
        {"x": None, "home": "", "v": [None, 1], "n": 1},
        {"v": [None, 1.0], "n": 1},
    ],
    ids=["null", "empty text", "left out"],
)
def test_records(server, row):
    assert ask_json(server, row) == [SEEN]


def test_empty_text_is_text_where_the_contract_says_so(server):
    assert ask_json(server, {"note": "", "v": [None, 1.0], "n": 1}) == ["nan none text nan 1.0"]


def test_a_null_for_a_whole_vector_is_as_many_missing_values(server):
    assert ask_json(server, {"v": None, "n": 1}) == ["nan none none nan nan"]


def test_json_has_no_nan_and_the_error_says_what_to_send(server):
    body = b'{"instances": [{"x": NaN, "n": 1}]}'
    answer = server.http.post("/v1/models/gaps:predict", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "JSON has no NaN or infinity (byte 21); send null for a missing number",
    )


TENSORS = {
    "x": np.array([np.nan]),
    "home": np.array([""], object),
    "note": np.array([None], object),
    "v": np.array([[np.nan, 1.0]], np.float32),
    "n": np.array([1]),
}
WIRE = {"x": "FP64", "home": "BYTES", "note": "BYTES", "v": "FP32", "n": "INT64"}


def said(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"][0]["data"]


def test_tensors_in_json(server):
    data = {"x": [None], "home": [None], "note": [None], "v": [[None, 1.0]], "n": [1]}
    for home in (None, ""):
        data["home"] = [home]
        inputs = [
            {"name": k, "datatype": WIRE[k], "shape": [1, 2] if k == "v" else [1], "data": v} for k, v in data.items()
        ]
        assert said(server.http.post("/v2/models/gaps/infer", json={"inputs": inputs})) == [SEEN]


def test_tensors_in_binary(server):
    blobs, inputs = [], []
    for name, array in TENSORS.items():
        if name == "note":
            continue  # empty text is all that bytes can say, and here it is text
        blobs.append(encode_raw(array))
        size = {"binary_data_size": len(blobs[-1])}
        inputs.append({"name": name, "datatype": WIRE[name], "shape": list(array.shape), "parameters": size})
    head = json.dumps({"inputs": inputs}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    answer = server.http.post("/v2/models/gaps/infer", content=b"".join([head, *blobs]), headers=headers)
    assert said(answer) == [SEEN]


@pytest.mark.parametrize("is_raw", [False, True])
def test_tensors_over_grpc(server, is_raw):
    request = pb.ModelInferRequest(model_name="gaps")
    for name, array in TENSORS.items():
        if name == "note":
            continue
        tensor = request.inputs.add(name=name, datatype=WIRE[name], shape=array.shape)
        if is_raw:
            request.raw_input_contents.append(encode_raw(array))
        elif name == "home":
            tensor.contents.bytes_contents.append(b"")
        else:
            kind = {"x": "fp64_contents", "v": "fp32_contents", "n": "int64_contents"}[name]
            getattr(tensor.contents, kind).extend(array.ravel().tolist())
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        answer = call(request)
    found = (
        answer.raw_output_contents[0][4:]
        if answer.raw_output_contents
        else answer.outputs[0].contents.bytes_contents[0]
    )
    assert found.decode() == SEEN


MISSING = {
    "None": None,
    "NaN": float("nan"),
    "NumPy's NaN": np.float64("nan"),
    "NA": pd.NA,
    "NaT": pd.NaT,
}


def forms(gap: Any) -> dict[str, Any]:
    row = {"x": gap, "home": gap, "note": gap, "v": [gap, 1.0], "n": np.int64(1)}
    frame = pd.DataFrame({k: pd.Series([v], dtype=object) for k, v in row.items()})
    arrays = {k: np.array([v], object) for k, v in row.items() if k != "v"}
    # `note` is left out: what it lacks has no form in a tensor, where empty text is text.
    return {
        "record": {k: v for k, v in row.items() if k != "note"},
        "records": [{k: v for k, v in row.items() if k != "note"}] * 20,
        "frame": frame.drop(columns="note"),
        "arrays": {
            **{k: v for k, v in arrays.items() if k != "note"},
            "v": np.array([[np.nan, 1]], np.float32),
            "n": np.array([1]),
        },
    }


@pytest.mark.parametrize("gap", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("form", ["record", "records", "frame", "arrays"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_client_takes_every_way_to_say_it(server, protocol, form, gap):
    url = str(server.http.base_url) if protocol == "http" else f"grpc://{server.grpc}"
    with Client(url) as client:
        answer = client.predict("gaps", forms(gap)[form])
        assert {row["saw"] for row in answer.as_records()} == {SEEN}


@pytest.fixture(scope="module")
def made(server, folder) -> Any:
    path = folder / "made_gaps.py"
    assert limen("client", folder / "gaps", "-o", path).returncode == 0
    return client_module(path)


@pytest.fixture(params=["RestClient", "GrpcClient"])
def call(request, made, server) -> Iterator[Callable[[dict], Any]]:
    address = str(server.http.base_url) if request.param == "RestClient" else server.grpc
    with getattr(made, request.param)(address) as client:
        yield lambda row: client.predict([row]).predictions[0]["saw"]


@pytest.mark.parametrize("gap", MISSING.values(), ids=MISSING)
def test_a_generated_client_takes_every_way_to_say_it(call, gap):
    assert call({"x": gap, "home": gap, "note": gap, "v": [gap, 1.0], "n": 1}) == SEEN


def test_a_generated_client_takes_the_numbers_of_numpy(call):
    row = {"x": np.float32(2), "home": np.str_("own"), "v": np.array([1, 2]), "n": np.int64(1)}
    assert call(row) == "2.0 own none 1.0 2.0"


@pytest.mark.parametrize("gap", MISSING.values(), ids=MISSING)
def test_a_generated_client_is_told_which_field_takes_none(call, made, gap):
    with pytest.raises(made.CallFailed) as caught:
        call({"v": [1.0, 2.0], "n": gap})
    assert [path for path, _ in caught.value.violations] == ["instances[0].n"]


@pytest.mark.parametrize("gap", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("form", ["record", "records", "frame", "arrays"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_client_is_told_which_field_takes_none(server, protocol, form, gap):
    url = str(server.http.base_url) if protocol == "http" else f"grpc://{server.grpc}"
    given = forms(1.0)[form]
    if isinstance(given, list):
        given = [{**row, "home": "own", "n": gap} for row in given]
    elif isinstance(given, pd.DataFrame):
        given = given.assign(home="own", n=pd.Series([gap], dtype=object))
    else:
        given = {
            **given,
            "home": np.array(["own"], object) if form == "arrays" else "own",
            "n": np.array([gap], object) if form == "arrays" else gap,
        }
    with Client(url) as client, pytest.raises(InvalidArgument) as caught:
        client.predict("gaps", given)
    assert {v.path.partition("].")[2] or v.path for v in caught.value.violations} == {"n"}
