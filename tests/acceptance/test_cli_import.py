"""`limen import` as people run it: what it says when it works, and when it does not."""

import json
import pickle
import shutil

import pytest

from tests.services.mlflow_folder import write_folder
from tests.services.packages import write_iris
from tests.services.process import limen, refused, serving

CONFIG = 'name: "iris" platform: "onnxruntime_onnx" max_batch_size: 8 input { name: "x" data_type: TYPE_FP32 dims: 4 }'


@pytest.fixture
def graph(tmp_path):
    return write_iris(tmp_path / "written") / "model.onnx"


def test_a_folder_of_mlflow_becomes_a_package_that_is_served(tmp_path, graph):
    write_folder(tmp_path / "Iris Model", "onnx", graph.read_bytes())
    done = limen("import", "Iris Model", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "iris-model/  (MLflow model)",
        "  model.onnx   onnx, loaded by the onnx backend",
        "  model.yaml   1 input, 1 output",
        "  origin.json  source: Iris Model",
        "",
        "Notes:",
        "  - the model is named iris-model; 'Iris Model' is not a valid model name (use --name to choose another)",
        "",
        "Next: complete the descriptions and limits in iris-model/model.yaml, then",
        "  limen check iris-model",
        "  limen serve iris-model",
    ]
    home = ("--home", tmp_path / "home")
    with serving(tmp_path / "iris-model", *home, announcement=tmp_path / "a.json") as server:
        assert len(server.predict("iris-model", x=[1, 2, 3, 4])["y"]) == 3


def test_a_decision_table_is_served_in_a_process_of_its_own(tmp_path):
    from tests.conformance.backends.conftest import RULES

    (tmp_path / "species.json").write_text(json.dumps(RULES))
    assert limen("import", "species.json", cwd=tmp_path).returncode == 0
    home = ("--home", tmp_path / "home")
    with serving(tmp_path / "species", *home, announcement=tmp_path / "a.json") as server:
        assert server.predict("species", petal_length=1.5) == {"species": "setosa", "chance": 1.0}


def test_mistakes_are_said_with_what_to_do(tmp_path, graph):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": [1]}))
    text = refused("import", "model.pkl", cwd=tmp_path)
    assert "error: model.pkl is a pickle, which runs code when it is loaded" in text
    assert "--trust-pickle" in text
    assert "--to must be one of onnx, skops" in refused("import", "model.pkl", "--to", "pickle", cwd=tmp_path)
    assert "set MLFLOW_TRACKING_URI or give --tracking-uri" in refused(
        "import", "mlflow:models:/credit/1", cwd=tmp_path
    )
    assert "nothing found at gone" in refused("import", "gone", cwd=tmp_path)
    assert "name: must be 1 to 63" in refused("import", graph, "--name", "Not A Name", cwd=tmp_path)

    (tmp_path / "iris" / "1").mkdir(parents=True)
    shutil.copy(graph, tmp_path / "iris" / "1")
    (tmp_path / "iris" / "config.pbtxt").write_text(CONFIG + "\nsequence_batching { }\nbatch_input { }")
    text = refused("import", "triton:iris", "-o", "out", cwd=tmp_path)
    assert "sequence_batching: sequences of requests that share state cannot be kept" in text
    assert not (tmp_path / "out").exists()
