"""One tiny real model for every kind of package, each with the same model asked directly."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from limen.contracts.contract import Contract, Field
from limen.contracts.tensors import TensorSpec
from limen.packaging.manifest.values import Bind, Manifest, OutputBinding
from limen.runtime.backends import backend
from limen.runtime.binding.binding import compile_binding
from limen.runtime.predictor import LoadedModel, Signature
from limen.testing.backends import BackendCase

IRIS = load_iris()
X, Y = IRIS.data, IRIS.target
SPECIES = tuple(str(name) for name in IRIS.target_names)
COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


@dataclass(frozen=True)
class Case:
    """One package folder and what its model answers when it is asked without Limen."""

    name: str
    folder: Path
    manifest: Manifest
    signature: Signature | None
    direct: Callable[[np.ndarray], dict[str, np.ndarray]]
    is_typed: bool = True
    """Whether the file itself says of what type its tensors are."""

    @property
    def artifact(self) -> Path:
        return self.folder / self.manifest.artifact_path

    def load(self) -> LoadedModel:
        return backend(self.manifest.backend).load(self.folder, self.manifest)

    @property
    def promised(self) -> BackendCase:
        """The same for the public suite."""
        return BackendCase(
            self.folder,
            self.manifest,
            lambda rows: columns(X[::-1][:rows]),
            lambda inputs: self.direct(np.stack([inputs[name] for name in COLUMNS], axis=1).astype(np.float64)),
            is_typed=self.signature is not None and self.is_typed,
        )

    def answer(self, model: LoadedModel, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Ask as the placements do: pack, predict, unpack."""
        binding = compile_binding(self.manifest, model.signature)
        return binding.unpack(model.predict(binding.pack(columns(rows)), {}), len(rows))


def columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return a matrix as the named fields of the contract, as read-only as they come from the network."""
    fields = {name: np.ascontiguousarray(rows[:, i], np.float32) for i, name in enumerate(COLUMNS)}
    for field in fields.values():
        field.flags.writeable = False
    return fields


def manifest(kind: str, artifact: str, tensor: str, outputs: dict[str, tuple[Field, OutputBinding]]) -> Manifest:
    """Return a manifest that packs the four measures into one tensor of the artifact."""
    return Manifest(
        contract=Contract(
            name="iris",
            inputs=tuple(Field(name=name, type="float32") for name in COLUMNS),
            outputs=tuple(field for field, _ in outputs.values()),
        ),
        backend=kind,
        artifact=artifact,
        bind=Bind(inputs={tensor: COLUMNS}, outputs={name: source for name, (_, source) in outputs.items()}),
    )


def probabilities(tensor: str) -> dict[str, tuple[Field, OutputBinding]]:
    """Return the outputs of a classifier: the class's name and every probability."""
    return {
        "species": (
            Field(name="species", type="string", enum=SPECIES),
            OutputBinding(tensor=tensor, argmax=True),
        ),
        "chances": (
            Field(name="chances", type="float32", shape=(3,), labels=SPECIES),
            OutputBinding(tensor=tensor),
        ),
    }


def _named(chances: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "species": np.array(SPECIES, object)[chances.argmax(axis=1)],
        "chances": chances.astype(np.float32),
    }


def make_onnx(folder: Path) -> Case:
    import onnxruntime
    from skl2onnx import to_onnx

    model = LogisticRegression(max_iter=200).fit(X, Y)
    graph = to_onnx(model, X[:1].astype(np.float32), options={"zipmap": False}).SerializeToString()
    (folder / "model.onnx").write_bytes(graph)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return Case(
        "onnx",
        folder,
        manifest("onnx", "model.onnx", "X", probabilities("probabilities")),
        signature(("X", "float32", (-1, 4)), ("label", "int64", (-1,)), ("probabilities", "float32", (-1, 3))),
        lambda rows: _named(session.run(["probabilities"], {"X": rows.astype(np.float32)})[0]),
    )


def make_sklearn(folder: Path) -> Case:
    import skops.io

    model = LogisticRegression(max_iter=200).fit(X, np.array(SPECIES)[Y])
    skops.io.dump(model, folder / "model.skops")
    return Case(
        "sklearn",
        folder,
        manifest("sklearn", "model.skops", "X", probabilities("probabilities")),
        signature(
            ("X", "float64", (-1, 4)),
            ("label", "string", (-1,), (), SPECIES),
            ("probabilities", "float64", (-1, 3), SPECIES),
        ),
        lambda rows: _named(model.predict_proba(rows)),
    )


def _xgboost(folder: Path, name: str) -> Case:
    import xgboost

    data = xgboost.DMatrix(X, Y, feature_names=list(COLUMNS))
    settings = {"objective": "multi:softprob", "num_class": 3, "max_depth": 2, "nthread": 1, "verbosity": 0}
    model = xgboost.train(settings, data, 4)
    model.save_model(folder / name)
    return Case(
        f"xgboost-{name.rpartition('.')[2]}",
        folder,
        manifest("xgboost", name, "X", probabilities("prediction")),
        signature(("X", "float32", (-1, 4), COLUMNS, (), True), ("prediction", "float32", (-1, 3))),
        lambda rows: _named(model.predict(xgboost.DMatrix(rows, feature_names=list(COLUMNS)))),
    )


def make_xgboost_json(folder: Path) -> Case:
    return _xgboost(folder, "model.json")


def make_xgboost_ubj(folder: Path) -> Case:
    return _xgboost(folder, "model.ubj")


def make_lightgbm(folder: Path) -> Case:
    import lightgbm

    settings = {"objective": "multiclass", "num_class": 3, "num_leaves": 4, "num_threads": 1, "verbosity": -1}
    model = lightgbm.train(settings, lightgbm.Dataset(X, Y, feature_name=list(COLUMNS)), 4)
    model.save_model(folder / "model.txt")
    return Case(
        "lightgbm",
        folder,
        manifest("lightgbm", "model.txt", "X", probabilities("prediction")),
        signature(("X", "float64", (-1, 4), COLUMNS, (), True), ("prediction", "float64", (-1, 3))),
        lambda rows: _named(model.predict(rows, num_threads=1)),
    )


PYTHON = """
import numpy as np
from weights import CENTRES


class Nearest:
    def predict(self, inputs):
        distance = ((inputs["X"][:, None, :] - CENTRES) ** 2).sum(axis=2)
        chances = np.exp(-distance)
        return {"scores": chances / chances.sum(axis=1, keepdims=True)}
"""


def make_python(folder: Path) -> Case:
    centres = np.array([X[k == Y].mean(axis=0) for k in range(3)])
    (folder / "model.py").write_text(PYTHON)
    (folder / "weights.py").write_text(f"import numpy as np\n\nCENTRES = np.array({centres.tolist()})\n")

    def direct(rows: np.ndarray) -> dict[str, np.ndarray]:
        chances = np.exp(-((rows[:, None, :] - centres) ** 2).sum(axis=2))
        return _named(chances / chances.sum(axis=1, keepdims=True))

    found = manifest("python", "model.py:Nearest", "X", probabilities("scores"))
    return Case("python", folder, found, None, direct)


RULES = {
    "nodes": [
        {"id": "in", "type": "inputNode", "name": "measures", "position": {"x": 0, "y": 0}},
        {
            "id": "table",
            "type": "decisionTableNode",
            "name": "species",
            "position": {"x": 0, "y": 0},
            "content": {
                "hitPolicy": "first",
                "inputs": [{"id": "l", "name": "Petal length", "field": "petal.length"}],
                "outputs": [
                    {"id": "s", "name": "Species", "field": "species"},
                    {"id": "c", "name": "c", "field": "chance"},
                ],
                "rules": [
                    {"_id": "1", "l": "< 2.45", "s": '"setosa"', "c": "1"},
                    {"_id": "2", "l": "< 4.75", "s": '"versicolor"', "c": "0.75"},
                    {"_id": "3", "l": "", "s": '"virginica"', "c": "0.75"},
                ],
            },
        },
        {"id": "out", "type": "outputNode", "name": "answer", "position": {"x": 0, "y": 0}},
    ],
    "edges": [
        {"id": "1", "type": "edge", "sourceId": "in", "targetId": "table"},
        {"id": "2", "type": "edge", "sourceId": "table", "targetId": "out"},
    ],
}


def make_rules(folder: Path) -> Case:
    (folder / "model.json").write_text(json.dumps(RULES))
    found = Manifest(
        contract=Contract(
            name="iris",
            inputs=tuple(Field(name=name, type="float32") for name in COLUMNS),
            outputs=(Field(name="species", type="string", enum=SPECIES), Field(name="chances", type="float32")),
        ),
        backend="rules",
        artifact="model.json",
        bind=Bind(inputs={"petal.length": "petal_length"}, outputs={"chances": OutputBinding(tensor="chance")}),
    )

    def direct(rows: np.ndarray) -> dict[str, np.ndarray]:
        index = np.digitize(rows[:, 2].astype(np.float32), [2.45, 4.75])
        return {"species": np.array(SPECIES, object)[index], "chances": np.where(index == 0, 1.0, 0.75)}

    inputs = ("sepal_length", "sepal_width", "petal.length", "petal_width")
    expected = Signature(
        tuple(TensorSpec(name, "float32", (-1,)) for name in inputs),
        (TensorSpec("species", "string", (-1,)), TensorSpec("chance", "float32", (-1,))),
    )
    return Case("rules", folder, found, expected, direct, is_typed=False)


def signature(taken: tuple, *given: tuple) -> Signature:
    """Return a signature of one input and some outputs."""
    return Signature((TensorSpec(*taken),), tuple(TensorSpec(*spec) for spec in given))


MAKERS = (make_onnx, make_sklearn, make_xgboost_json, make_xgboost_ubj, make_lightgbm, make_rules, make_python)
FILES = tuple(maker for maker in MAKERS if maker is not make_python)


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Callable[[Callable[[Path], Case]], Case]:
    """Train each model once."""
    cases: dict[str, Case] = {}

    def build(maker: Callable[[Path], Case]) -> Case:
        name = maker.__name__
        if name not in cases:
            cases[name] = maker(tmp_path_factory.mktemp(name))
        return cases[name]

    return build


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__.removeprefix("make_"))
def case(request, built) -> Case:
    return built(request.param)


@pytest.fixture(params=FILES, ids=lambda maker: maker.__name__.removeprefix("make_"))
def file_case(request, built) -> Case:
    """The same without the Python class, which has no format of its own to be damaged."""
    return built(request.param)


@pytest.fixture
def model(case) -> Iterator[LoadedModel]:
    loaded = case.load()
    yield loaded
    loaded.close()
