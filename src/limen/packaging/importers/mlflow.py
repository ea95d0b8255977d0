"""MLflow model folders: the file `MLmodel`, its flavour, its signature and its input example.

MLflow itself is not needed. Flavours whose file a backend loads are taken as they are (onnx, xgboost, lightgbm, sklearn saved by
skops); a scikit-learn or LightGBM model that MLflow pickled must be converted; a model that is only a `python_function` is code and
is refused. Format: <https://mlflow.org/docs/latest/ml/model/>.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from limen.contracts.errors import InvalidPackage
from limen.contracts.strict.rules import Report
from limen.contracts.strict.yaml import read_yaml
from limen.packaging.formats.known import Format
from limen.packaging.formats.sniff import examine
from limen.packaging.importers.draft import Draft
from limen.packaging.importers.mlflow_signature import read_example, read_signature
from limen.packaging.paths import ensure_inside

MODEL_FILE: Final = "MLmodel"
_ORIGIN: Final = {
    "run_id": "mlflow_run",
    "model_id": "mlflow_model",
    "model_uuid": "mlflow_uuid",
    "mlflow_version": "mlflow_version",
    "utc_time_created": "created",
}
_CLASSIFIERS: Final = frozenset(["xgboost.sklearn.XGBClassifier", "xgboost.sklearn.XGBRFClassifier"])


class _Flavour(msgspec.Struct, frozen=True):
    """What one flavour's entry says."""

    file: str
    versions: dict[str, str] = {}
    classifier: bool = False
    is_sklearn_api: bool = False
    """Written from XGBoost's scikit-learn classes, which answer with the trees up to the best round."""


def _onnx(entry: Mapping[str, Any]) -> _Flavour:
    return _Flavour(str(entry.get("data", "")), {"onnx": str(entry.get("onnx_version", ""))})


def _xgboost(entry: Mapping[str, Any]) -> _Flavour:
    versions = {"xgboost": str(entry.get("xgb_version", ""))}
    kind = str(entry.get("model_class", ""))
    return _Flavour(str(entry.get("data", "")), versions, kind in _CLASSIFIERS, kind.startswith("xgboost.sklearn."))


def _lightgbm(entry: Mapping[str, Any]) -> _Flavour:
    return _Flavour(str(entry.get("data", "")), {"lightgbm": str(entry.get("lgb_version", ""))})


def _sklearn(entry: Mapping[str, Any]) -> _Flavour:
    versions = {"scikit-learn": str(entry.get("sklearn_version", ""))}
    return _Flavour(str(entry.get("pickled_model", "")), versions)


_FLAVOURS: Final[Mapping[str, Callable[[Mapping[str, Any]], _Flavour]]] = {
    "onnx": _onnx,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "sklearn": _sklearn,
}
"""The flavours that are imported, the one that is taken first in front."""
_EXPORT: Final = {
    "pytorch": "export it with torch.onnx.export and log it with mlflow.onnx",
    "tensorflow": "convert it with tf2onnx and log it with mlflow.onnx",
    "keras": "convert it with tf2onnx and log it with mlflow.onnx",
    "transformers": "export it with `optimum-cli export onnx` and log it with mlflow.onnx",
    "catboost": "save it as ONNX (save_model with format='onnx') and log it with mlflow.onnx",
}
_CODE: Final = "its answers come from Python code; write a package with `backend: python` for that code instead"


class MlflowImporter:
    """Reads model folders that MLflow wrote."""

    kind: ClassVar[str] = "MLflow model"

    def recognises(self, path: Path) -> bool:
        """Return whether it is a folder with an MLmodel file."""
        return (path / MODEL_FILE).is_file()

    def read(self, path: Path, version: str) -> Draft:
        """Return the model of the first flavour that can be served.

        Raises:
            InvalidPackage: no flavour can be imported, or the folder contradicts itself.
        """
        found = _read_mlmodel(path)
        name, flavour = _choose(found)
        artifact = ensure_inside(path, flavour.file)
        if not flavour.file or not artifact.is_file() or not artifact.stat().st_size:
            raise InvalidPackage(f"the {name} flavour of the model names a file that is not there or empty")
        declared = read_signature(found.get("signature"))
        example = read_example(path, found.get("saved_input_example_info"), declared.columns)
        notes = [*declared.notes, *([example.note] if example.note else [])]
        if found["flavors"][name].get("code"):
            notes.append("Python code that was logged with the model (code_paths)")
        origin = {"flavour": name} | {
            key: str(found[theirs]) for theirs, key in _ORIGIN.items() if isinstance(found.get(theirs), str)
        }
        return Draft(
            kind=self.kind,
            name=path.resolve().name,
            artifact=artifact,
            is_pickle=examine(artifact).format is Format.PICKLE,
            # With this objective the model gives the class itself.
            classifier=flavour.classifier and not _holds(artifact, b"multi:softmax"),
            is_early_stopped=flavour.is_sklearn_api
            and _holds(artifact, b"best_iteration")
            and not _holds(artifact, b"scikit_learn"),
            columns=declared.columns,
            sample=example.rows,
            origin=origin,
            versions={library: text for library, text in flavour.versions.items() if text},
            notes=tuple(notes),
        )


def _read_mlmodel(folder: Path) -> dict[str, Any]:
    report = Report()
    found = read_yaml((folder / MODEL_FILE).read_bytes(), report)
    if report.violations:
        mistake = report.violations[0]
        raise InvalidPackage(
            f"the file {MODEL_FILE} cannot be read: {mistake.path} {mistake.reason}".replace("  ", " ")
        )
    flavours = found.get("flavors") if isinstance(found, dict) else None
    if not isinstance(flavours, dict) or not all(isinstance(entry, dict) for entry in flavours.values()):
        raise InvalidPackage(f"the file {MODEL_FILE} names no flavours")
    return {**found, "flavors": flavours}


def _holds(file: Path, word: bytes) -> bool:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(word) >= 0


def _choose(found: Mapping[str, Any]) -> tuple[str, _Flavour]:
    flavours = found["flavors"]
    for name, read in _FLAVOURS.items():
        if name in flavours:
            return name, read(flavours[name])
    others = [name for name in flavours if name != "python_function"]
    how = next((f"{name}: {_EXPORT[name]}" for name in others if name in _EXPORT), None)
    if how is None:
        how = f"{', '.join(others) or 'python_function'}: {_CODE}"
    raise InvalidPackage(f"the model has no flavour that can be imported ({', '.join(_FLAVOURS)}). {how}")
