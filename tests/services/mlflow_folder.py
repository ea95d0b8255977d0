"""MLflow model folders as MLflow writes them, without MLflow."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = [{"type": "double", "name": name, "required": True} for name in ("a", "b", "c", "d")]
_FILES = {"sklearn": "model.pkl", "xgboost": "model.ubj", "onnx": "model.onnx", "lightgbm": "model.lgb"}
_ENTRIES: Mapping[str, Mapping[str, Any]] = {
    "sklearn": {
        "pickled_model": "model.pkl",
        "serialization_format": "cloudpickle",
        "sklearn_version": "1.9.1",
        "code": None,
    },
    "xgboost": {"data": "model.ubj", "model_class": "xgboost.core.Booster", "xgb_version": "3.2.0", "code": None},
    "onnx": {"data": "model.onnx", "onnx_version": "1.20.0", "code": None},
    "lightgbm": {"data": "model.lgb", "lgb_version": "4.6.0", "code": None},
}


def write_folder(
    folder: Path,
    flavour: str,
    model: bytes | None,
    *,
    inputs: list[dict[str, Any]] | None = None,
    params: list[dict[str, Any]] | None = None,
    example: object = None,
    kind: str = "dataframe",
    entry: Mapping[str, Any] | None = None,
) -> Path:
    """Write one folder and return it; a model of None leaves its file out."""
    folder.mkdir(parents=True)
    found: dict[str, Any] = {
        "flavors": {"python_function": {"loader_module": f"mlflow.{flavour}", "python_version": "3.11.7"}},
        "mlflow_version": "3.17.2",
        "run_id": "b5f6a9",
        "utc_time_created": "2026-11-27 15:09:46.497997",
    }
    if flavour != "python_function":
        found["flavors"][flavour] = {**_ENTRIES.get(flavour, {}), **(entry or {})}
    if inputs is not None:
        found["signature"] = {
            "inputs": json.dumps(inputs),
            "outputs": None,
            "params": json.dumps(params) if params else None,
        }
    if example is not None:
        found["saved_input_example_info"] = {
            "artifact_path": "input_example.json",
            "type": kind,
            "pandas_orient": "split",
        }
        (folder / "input_example.json").write_text(json.dumps(example))
    if model is not None and flavour in _FILES:
        (folder / _FILES[flavour]).write_bytes(model)
    # JSON is YAML.
    (folder / "MLmodel").write_text(json.dumps(found, indent=1))
    return folder
