"""One model of a Triton repository: `config.pbtxt`, numbered version folders, label files.

Taken: ONNX models (backend `onnxruntime`). What the configuration promises and cannot be kept here is refused by name, so that
nobody gets a model that answers differently. Format: Triton's `model_config.proto` and its page on model repositories.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from limen.contracts.errors import InvalidPackage, Violation
from limen.contracts.tensors import TYPES, TensorSpec
from limen.packaging.importers.draft import Draft, model_name
from limen.packaging.importers.text_proto import Message, read_text_proto
from limen.packaging.paths import ensure_inside, invalid

CONFIG_FILE: Final = "config.pbtxt"
MAX_LABELS: Final = 10_000
_ONNX: Final = ("onnxruntime_onnx", "onnxruntime")
_TYPES: Final = {f"TYPE_{t.wire}": t.name for t in TYPES if t.wire != "BYTES"} | {"TYPE_STRING": "string"}
_REFUSED: Final = {
    "sequence_batching": "sequences of requests that share state",
    "ensemble_scheduling": "an ensemble of other models; import each of them",
    "batch_input": "inputs that Triton makes from the batch",
    "batch_output": "outputs that are cut by the batch",
    "model_operations": "custom operators",
}
_REFUSED_IN_TENSOR: Final = {
    "is_shape_tensor": "shape tensors",
    "allow_ragged_batch": "ragged batches",
    "optional": "optional inputs",
}
_LEFT_OUT: Final = {
    "instance_group": "instances and devices; say `serving: {replicas: …}` in model.yaml",
    "optimization": "optimisation settings",
    "response_cache": "the response cache",
    "model_warmup": "warm-up requests; a package has examples instead",
}


class TritonImporter:
    """Reads the folder of one model."""

    kind: ClassVar[str] = "Triton model"

    def recognises(self, path: Path) -> bool:
        """Return whether it is a folder with a configuration."""
        return (path / CONFIG_FILE).is_file()

    def read(self, path: Path, version: str) -> Draft:
        """Return the model of the newest version, or of the given one.

        Raises:
            InvalidPackage: another backend, or settings that cannot be kept; all of them at once.
        """
        config = read_text_proto((path / CONFIG_FILE).read_bytes(), str(path / CONFIG_FILE))
        _ensure_onnx(config, path)
        mistakes = [Violation(key, f"{what} cannot be kept") for key, what in _REFUSED.items() if key in config]
        if any(_one(policy, "decoupled", default=False) for policy in config.get("model_transaction_policy", [])):
            mistakes.append(
                Violation("model_transaction_policy.decoupled", "several answers to one request cannot be kept")
            )
        max_batch = _one(config, "max_batch_size", default=0)
        if not isinstance(max_batch, int) or max_batch < 0:
            mistakes.append(Violation("max_batch_size", "must be a whole number from 0"))
            max_batch = 0
        inputs = _tensors(config, "input", max_batch, mistakes)
        outputs = _tensors(config, "output", max_batch, mistakes)
        if mistakes:
            raise invalid(f"{path / CONFIG_FILE} cannot be imported", mistakes)
        number = _choose(path, version)
        return Draft(
            kind=self.kind,
            name=model_name(str(_one(config, "name", default=path.resolve().name))),
            artifact=_artifact(path, number, config),
            inputs=inputs,
            outputs=outputs,
            labels=_labels(config, path),
            max_rows=max_batch or None,
            max_wait_ms=_wait_ms(config),
            origin={"triton_version": str(number)},
            notes=tuple(what for key, what in _LEFT_OUT.items() if key in config),
        )


def _one(message: Message, key: str, default: Any) -> Any:
    """Return the value of a field that is there once; the last one counts."""
    return message.get(key, [default])[-1]


def _messages(message: Message, key: str) -> list[Message]:
    return [value for value in message.get(key, []) if isinstance(value, dict)]


def _ensure_onnx(config: Message, path: Path) -> None:
    kind = str(_one(config, "platform", default="") or _one(config, "backend", default=""))
    if kind in _ONNX or (not kind and any(path.glob("*/model.onnx"))):
        return
    hint = "export the model to ONNX"
    if kind == "python":
        hint = "it is code: write a package with `backend: python` around it"
    elif kind == "fil":
        hint = "import its XGBoost or LightGBM file itself (`limen import FILE`)"
    elif kind == "ensemble":
        hint = "import each of its models"
    raise InvalidPackage(
        f"{path} is for Triton's backend {kind or 'that it does not name'}; only ONNX is imported. Do this: {hint}"
    )


def _tensors(config: Message, side: str, max_batch: int, mistakes: list[Violation]) -> tuple[TensorSpec, ...]:
    found = []
    for i, tensor in enumerate(_messages(config, side)):
        path = f"{side}[{i}]"
        mistakes += [
            Violation(f"{path}.{key}", f"{what} cannot be kept")
            for key, what in _REFUSED_IN_TENSOR.items()
            if _one(tensor, key, default=False)
        ]
        element = _TYPES.get(str(_one(tensor, "data_type", default="")))
        if element is None:
            mistakes.append(Violation(f"{path}.data_type", f"must be one of {', '.join(_TYPES)}"))
        dims = tensor.get("dims", [])
        if not all(isinstance(d, int) and (d == -1 or d > 0) for d in dims) or not (dims or max_batch):
            mistakes.append(Violation(f"{path}.dims", "must be whole numbers from 1, or -1 for a variable axis"))
            continue
        if any(reshape.get("shape", []) != dims for reshape in _messages(tensor, "reshape")):
            mistakes.append(Violation(f"{path}.reshape", "another shape than dims cannot be kept"))
        if not max_batch and dims[0] not in (-1, 1):
            text = f"max_batch_size is 0 and the first axis is {dims[0]}; a model here takes rows along a variable first axis"
            mistakes.append(Violation(f"{path}.dims", text))
        shape = (-1, *dims) if max_batch else tuple(dims)
        found.append(TensorSpec(str(_one(tensor, "name", default="")), element or "float32", shape))
    return tuple(found)


def _labels(config: Message, folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes of every output that has a file of them."""
    found = {}
    for tensor in _messages(config, "output"):
        name = str(_one(tensor, "label_filename", default=""))
        if not name:
            continue
        file = ensure_inside(folder, name)
        if not file.is_file():
            raise InvalidPackage(f"{folder}: there is no label file {name}")
        lines = file.read_text(encoding="utf-8").splitlines()[: MAX_LABELS + 1]
        found[str(_one(tensor, "name", default=""))] = tuple(line.strip() for line in lines if line.strip())
    return found


def _wait_ms(config: Message) -> float | None:
    """Return how long Triton lets requests wait for company; None when it does not batch."""
    delays = [_one(b, "max_queue_delay_microseconds", default=0) for b in _messages(config, "dynamic_batching")]
    return delays[-1] / 1000 if delays and isinstance(delays[-1], int) and delays[-1] > 0 else None


def _choose(folder: Path, version: str) -> int:
    numbers = [
        int(p.name) for p in folder.iterdir() if p.is_dir() and re.fullmatch(r"[1-9][0-9]{0,17}", p.name, re.ASCII)
    ]
    if not numbers:
        raise InvalidPackage(f"{folder} holds no version: there is no folder with a number as its name")
    if not version:
        return max(numbers)
    if version not in map(str, numbers):
        raise InvalidPackage(f"{folder} holds no version {version}; it has {_listed(numbers)}")
    return int(version)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _artifact(folder: Path, number: int, config: Message) -> Path:
    name = str(_one(config, "default_model_filename", default="model.onnx"))
    file = ensure_inside(folder, f"{number}/{name}")
    if file.is_dir():  # a model with weights in files of their own is a folder with a model.onnx in it
        file /= "model.onnx"
    if not file.is_file():
        raise InvalidPackage(f"{folder}: version {number} has no file {name}")
    return file
