"""One model of a Triton repository: `config.pbtxt`, numbered version folders, label files.

Taken: ONNX models (backend `onnxruntime`). What the configuration promises and cannot be kept here is refused by name, so that
nobody gets a model that answers differently. Format: Triton's `model_config.proto` and its page on model repositories.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

from limen.contracts.errors import InvalidPackage, Violation
from limen.contracts.tensors import TYPES, TensorSpec
from limen.packaging.importers.draft import Draft
from limen.packaging.importers.text_proto import Message, read_text_proto
from limen.packaging.paths import ensure_inside, invalid

CONFIG_FILE: Final = "config.pbtxt"
_ONNX: Final = ("onnxruntime_onnx", "onnxruntime")
_TYPES: Final = {f"TYPE_{t.wire}": t.name for t in TYPES if t.wire != "BYTES"} | {"TYPE_STRING": "string"}
_BY_NUMBER: Final = dict(
    enumerate(
        (
            *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
            "FP16",
            "FP32",
            "FP64",
            "STRING",
            "BF16",
        ),
        start=1,
    )
)
"""The numbers of Triton's data types: Protobuf text may give an enum so."""
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
        number, notes = _choose(path, version, config)
        notes += [what for key, what in _LEFT_OUT.items() if key in config]
        labels = _labels(config, path, notes)
        return Draft(
            kind=self.kind,
            name=str(_one(config, "name", default="") or path.resolve().name),
            artifact=_artifact(path, number, config),
            inputs=inputs,
            outputs=outputs,
            labels=labels,
            max_rows=max_batch or None,
            max_wait_ms=_wait_ms(config),
            origin={"triton_version": str(number)},
            notes=tuple(notes),
        )


def _one(message: Message, key: str, default: Any) -> Any:
    """Return the value of a field that is there once; the last one counts."""
    values = message.get(key)
    return values[-1] if values else default


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
        given = _one(tensor, "data_type", default="")
        element = _TYPES.get(f"TYPE_{_BY_NUMBER.get(given)}" if isinstance(given, int) else str(given))
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


def _labels(config: Message, folder: Path, notes: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes of every output that has a file of them.

    The place of a line is the number of its class, so an empty line names nothing and still counts.
    """
    found = {}
    for tensor in _messages(config, "output"):
        file_name = str(_one(tensor, "label_filename", default=""))
        if not file_name:
            continue
        name = str(_one(tensor, "name", default=""))
        file = ensure_inside(folder, file_name)
        if not file.is_file():
            raise InvalidPackage(f"{folder}: there is no label file {file_name}")
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as exc:
            raise InvalidPackage(f"{file} must be text in UTF-8") from exc
        # Not splitlines: it breaks lines at characters that Triton takes for a part of the name.
        labels = [line.strip() for line in text.rstrip().split("\n")]
        dims = tensor.get("dims", [])
        if not any(labels) or not dims or any(not isinstance(d, int) or d < 1 for d in dims):
            notes.append(f"the labels of {name}: the configuration does not say how many classes there are")
        elif dims[-1] != prod(dims):
            notes.append(f"the labels of {name}, whose classes are not along its last axis")
        else:
            # Classes after the last line have no name, and lines beyond the last class no use.
            found[name] = (*labels[: dims[-1]], *[""] * (dims[-1] - len(labels)))
            if len(labels) != dims[-1]:
                notes.append(f"{file_name} has {len(labels)} names for the {dims[-1]} classes of {name}")
    return found


def _wait_ms(config: Message) -> float | None:
    """Return how long Triton lets requests wait for company; None when it does not batch."""
    delays = [_one(b, "max_queue_delay_microseconds", default=0) for b in _messages(config, "dynamic_batching")]
    return delays[-1] / 1000 if delays and isinstance(delays[-1], int) and delays[-1] > 0 else None


def _choose(folder: Path, version: str, config: Message) -> tuple[int, list[str]]:
    """Return the version to take, and what to tell of the others.

    Triton answers with the newest version that its policy lets it serve, which need not be the newest that is there.
    """
    numbers = sorted(
        int(p.name) for p in folder.iterdir() if p.is_dir() and re.fullmatch(r"[1-9][0-9]{0,17}", p.name, re.ASCII)
    )
    if not numbers:
        raise InvalidPackage(f"{folder} holds no version: there is no folder with a number as its name")
    served = _served(numbers, config)
    if not version and not served:
        text = "its version_policy names none of them; choose one with --version"
        raise InvalidPackage(f"{folder} holds the versions {_listed(numbers)}, and {text}")
    if version and version not in map(str, numbers):
        raise InvalidPackage(f"{folder} holds no version {version}; it has {_listed(numbers)}")
    chosen = int(version) if version else served[-1]
    notes = []
    if chosen not in served:
        notes.append(
            f"version {chosen} is taken, which Triton does not serve: its version_policy is for {_listed(served) or 'none'}"
        )
    elif chosen != numbers[-1]:
        why = "as asked for" if version else "the newest that its version_policy lets Triton serve"
        notes.append(f"version {chosen} is taken, {why}; the folder holds {_listed(numbers)}")
    if more := [number for number in served if number != chosen]:
        notes.append(f"Triton serves the versions {_listed(more)} as well; import each with --version to serve it here")
    return chosen, notes


def _served(numbers: Sequence[int], config: Message) -> list[int]:
    """Return which versions a policy lets Triton serve, in ascending order: the newest alone when there is no policy."""
    policy = _one(config, "version_policy", default={})
    if not isinstance(policy, dict):
        raise InvalidPackage("version_policy must be a message: latest, all or specific")
    if "all" in policy:
        return list(numbers)
    if "specific" in policy:
        wanted = {number for part in _messages(policy, "specific") for number in part.get("versions", [])}
        return [number for number in numbers if number in wanted]
    latest = _one(_one(policy, "latest", default={}), "num_versions", default=1)
    if not isinstance(latest, int) or latest < 1:
        raise InvalidPackage("version_policy.latest.num_versions must be a whole number from 1")
    return list(numbers[-latest:])


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
