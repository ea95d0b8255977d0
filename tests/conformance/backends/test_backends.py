"""What every backend promises, shown on a real model of its own kind."""

import msgspec
import numpy as np
import pytest

from limen.contracts.errors import InvalidPackage, ModelFailed, Reason
from limen.runtime.binding.binding import compile_binding
from limen.testing.backends import BackendCase, BackendSuite, FileBackendSuite
from tests.conformance.backends.conftest import COLUMNS, X, make_python


def refusal(case) -> InvalidPackage:
    with pytest.raises(InvalidPackage) as caught:
        case.load()
    return caught.value


class TestFiles(FileBackendSuite):
    """The public suite on every backend of ours whose artifacts have a format; B92 and B95 are in it."""

    @pytest.fixture
    def case(self, file_case) -> BackendCase:
        return file_case.promised


class TestPython(BackendSuite):
    """The public suite on a Python class."""

    @pytest.fixture
    def case(self, built) -> BackendCase:
        return built(make_python).promised


def test_it_declares_the_tensors_of_the_artifact(case, model):
    if case.signature is None:
        assert (model.signature.inputs, model.signature.outputs) == ((), ())
    else:
        assert model.signature == case.signature


def test_a_matrix_of_another_width_is_model_failed_and_the_next_request_is_answered(case, model):
    with pytest.raises(ModelFailed):
        model.predict({"X": np.zeros((1, 3), np.float32)}, {})
    assert case.answer(model, X[:1])["species"].tolist() == ["setosa"]


def test_a_column_too_few_is_refused_when_the_version_is_bound(file_case):
    has_matrix = "X" in file_case.manifest.bind.inputs
    short = msgspec.structs.replace(
        file_case.manifest,
        contract=msgspec.structs.replace(file_case.manifest.contract, inputs=file_case.manifest.contract.inputs[:3]),
        bind=msgspec.structs.replace(file_case.manifest.bind, inputs={"X": COLUMNS[:3]} if has_matrix else {}),
    )
    model = file_case.load()
    with pytest.raises(InvalidPackage) as caught:
        compile_binding(short, model.signature)
    place = "bind.inputs.X" if has_matrix else "bind.inputs.petal_width"
    assert place in [v.path for v in caught.value.violations]


def test_the_missing_library_is_named_with_what_to_install(file_case, monkeypatch):
    library = {"onnx": "onnxruntime", "sklearn": "skops.io", "xgboost": "xgboost", "lightgbm": "lightgbm"}
    library["rules"] = "zen"
    kind = file_case.manifest.backend
    monkeypatch.setitem(__import__("sys").modules, library[kind], None)
    error = refusal(file_case)
    assert error.reason is Reason.MISSING_DEPENDENCY
    assert error.message.endswith(f"install limen[{kind}]")
