"""Reads other tools' model folders: which file is the model, and what else is known about it.

An importer reads and never loads: nothing here unpickles, imports code from a source or opens a connection (`mlflow_registry` does,
to the configured tracking server only). What it finds is a `Draft`; `authoring.importing` makes a package of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from limen.contracts.errors import InvalidPackage
from limen.packaging.importers.draft import Draft, Importer
from limen.packaging.importers.huggingface import HuggingFaceImporter
from limen.packaging.importers.mlflow import MlflowImporter
from limen.packaging.importers.plain import PlainImporter
from limen.packaging.importers.torch_export import TorchExportImporter
from limen.packaging.importers.triton import TritonImporter

IMPORTERS: Final[tuple[Importer, ...]] = (
    MlflowImporter(),
    TritonImporter(),
    HuggingFaceImporter(),
    TorchExportImporter(),
    PlainImporter(),
)
_REFUSED: Final = (
    ("model.safetensors", "holds weights without a config.json", "`optimum-cli export onnx --model FOLDER OUT`"),
    (
        "saved_model.pb",
        "is a TensorFlow SavedModel",
        "`python -m tf2onnx.convert --saved-model FOLDER --output model.onnx`",
    ),
)
"""Folders that are known and that no backend runs: a file in them, what they are, and how to get an ONNX model of them."""


def read_source(path: Path, version: str = "") -> Draft:
    """Return what is at a path, as the importer that knows its kind reads it.

    Args:
        path: a folder or file.
        version: which one to take of a folder that holds several; the newest when not given.

    Raises:
        InvalidPackage: nothing there is known, or it cannot be imported; the text says what can be done instead.
    """
    if not path.exists():
        raise InvalidPackage(f"nothing found at {path}")
    for importer in IMPORTERS:
        if importer.recognises(path):
            return importer.read(path, version)
    for name, what, command in _REFUSED:
        if (path / name).exists():
            text = f"{path} {what}, which no backend can run; export the model to ONNX ({command}) and import the .onnx file"
            raise InvalidPackage(text)
    raise InvalidPackage(
        f"{path} is not a known kind of model: give a model file, an MLflow model folder (with a file MLmodel), "
        "a Hugging Face model folder (with config.json and model.safetensors) or the folder of one model in a Triton repository "
        "(with a file config.pbtxt)"
    )
