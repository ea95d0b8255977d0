"""One model of a Triton repository: `config.pbtxt`, numbered version folders, label files.

Taken: ONNX models (backend `onnxruntime`). What the configuration promises and cannot be kept here is refused by name, so that
nobody gets a model that answers differently. Format: Triton's `model_config.proto` and its page on model repositories.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from limen.contracts.errors import InvalidPackage, Violation
from limen.packaging.importers.draft import Draft
from limen.packaging.importers.text_proto import Message, messages, one, read_text_proto
from limen.packaging.importers.triton_tensors import read_labels, read_tensors
from limen.packaging.paths import ensure_inside, invalid

CONFIG_FILE: Final = "config.pbtxt"
_ONNX: Final = ("onnxruntime_onnx", "onnxruntime")
_REFUSED: Final = {
    "sequence_batching": "sequences of requests that share state",
    "ensemble_scheduling": "an ensemble of other models; import each of them",
    "batch_input": "inputs that Triton makes from the batch",
    "batch_output": "outputs that are cut by the batch",
    "model_operations": "custom operators",
}
_LEFT_OUT: Final = {
    "instance_group": "instances and devices; say `serving: {replicas: …}` in model.yaml",
    "optimization": "optimisation settings",
    "response_cache": "the response cache",
    "model_warmup": "warm-up requests; a package has examples instead",
    "parameters": "parameters of the backend",
    "metric_tags": "labels of metrics",
    "model_metrics": "settings of metrics",
    "cc_model_filenames": "files for single kinds of GPU",
    "model_repository_agents": "agents of the repository",
}
_KNOWN: Final = {
    *("name", "platform", "backend", "runtime", "version_policy", "max_batch_size", "input", "output"),
    *("dynamic_batching", "default_model_filename", "model_transaction_policy"),
    *_REFUSED,
    *_LEFT_OUT,
}


class TritonImporter:
    """Reads the folder of one model."""

    kind: ClassVar[str] = "Triton model"

    def recognises(self, path: Path) -> bool:
        """Return whether it is a folder with a configuration, or with the numbered versions of an ONNX model, which needs none."""
        return (path / CONFIG_FILE).is_file() or any(path.glob("[1-9]*/model.onnx"))

    def read(self, path: Path, version: str) -> Draft:
        """Return the model of the newest version, or of the given one.

        Raises:
            InvalidPackage: another backend, or settings that cannot be kept; all of them at once.
        """
        file = path / CONFIG_FILE
        config = read_text_proto(file.read_bytes(), str(file)) if file.is_file() else {}
        _ensure_onnx(config, path)
        mistakes = [Violation(key, f"{what} cannot be kept") for key, what in _REFUSED.items() if key in config]
        if any(one(policy, "decoupled", False) for policy in config.get("model_transaction_policy", [])):
            mistakes.append(
                Violation("model_transaction_policy.decoupled", "several answers to one request cannot be kept")
            )
        mistakes += [
            Violation(key, "is not a field of Triton's configuration") for key in sorted(config.keys() - _KNOWN)
        ]
        max_batch = one(config, "max_batch_size", 0)
        if not isinstance(max_batch, int) or max_batch < 0:
            mistakes.append(Violation("max_batch_size", "must be a whole number from 0"))
            max_batch = 0
        inputs = read_tensors(config, "input", mistakes, is_batched=max_batch > 0)
        outputs = read_tensors(config, "output", mistakes, is_batched=max_batch > 0)
        if mistakes:
            raise invalid(f"{path / CONFIG_FILE} cannot be imported", mistakes)
        number, notes = _choose(path, version, config)
        notes += [what for key, what in _LEFT_OUT.items() if key in config]
        notes += _left_out_of_batching(config)
        labels = read_labels(config, path, notes)
        is_declared = bool(inputs.tensors or outputs.tensors)
        return Draft(
            kind=self.kind,
            name=str(one(config, "name", "") or path.resolve().name),
            artifact=_artifact(path, number, config),
            inputs=inputs.tensors,
            outputs=outputs.tensors,
            labels=labels,
            max_rows=max_batch or None,
            max_wait_ms=_wait_ms(config),
            # Without tensors Triton looks at the model's, and so does the scaffold.
            is_batched=max_batch > 0 if is_declared or max_batch else None,
            input_rows=inputs.rows,
            output_rows=outputs.rows,
            origin={"triton_version": str(number)},
            notes=tuple(notes),
        )


def _ensure_onnx(config: Message, path: Path) -> None:
    kind = str(one(config, "platform", "") or one(config, "backend", ""))
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


def _left_out_of_batching(config: Message) -> list[str]:
    """Return which settings of the dynamic batcher have no counterpart here."""
    kept = {"max_queue_delay_microseconds", "preferred_batch_size"}
    found = {key for batching in messages(config, "dynamic_batching") for key in batching} - kept
    return [f"dynamic_batching.{key}" for key in sorted(found)]


def _wait_ms(config: Message) -> float | None:
    """Return how long Triton lets requests wait for company; None when it does not batch."""
    delays = [one(b, "max_queue_delay_microseconds", 0) for b in messages(config, "dynamic_batching")]
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
    policy = one(config, "version_policy", {})
    if not isinstance(policy, dict):
        raise InvalidPackage("version_policy must be a message: latest, all or specific")
    if "all" in policy:
        return list(numbers)
    if "specific" in policy:
        wanted = {number for part in messages(policy, "specific") for number in part.get("versions", [])}
        return [number for number in numbers if number in wanted]
    latest = one(one(policy, "latest", {}), "num_versions", default=1)
    if not isinstance(latest, int) or latest < 1:
        raise InvalidPackage("version_policy.latest.num_versions must be a whole number from 1")
    return list(numbers[-latest:])


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _artifact(folder: Path, number: int, config: Message) -> Path:
    name = str(one(config, "default_model_filename", "") or "model.onnx")
    file = ensure_inside(folder, f"{number}/{name}")
    if file.is_dir():  # a model with weights in files of their own is a folder with a model.onnx in it
        file /= "model.onnx"
    if not file.is_file():
        raise InvalidPackage(f"{folder}: version {number} has no file {name}")
    return file
