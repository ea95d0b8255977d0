"""Tells what kind of file a content is: cuts tokens, asks the Magika model, and names what it is sure of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort

BLOCK = 4096  # bytes looked at from each end
HALF = 1024  # tokens kept from each end, after white space is stripped
NO_BYTE = 256
FEWEST = 8  # with fewer bytes there is nothing for a model to see


class FileType:
    """Plain class: Limen calls `load` once and `predict` with batches."""

    def load(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(path / "model.onnx", options, providers=["CPUExecutionProvider"])
        settings = json.loads((path / "settings.json").read_text())
        self._labels: list[str] = settings["labels"]
        self._text = set(settings["text"])
        self._renamed: dict[str, str] = settings["renamed"]
        self._thresholds: dict[str, float] = settings["thresholds"]
        self._threshold: float = settings["threshold"]

    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        contents = inputs["content"]
        rows = [tokens(content) for content in contents]
        seen = [row for row in rows if row is not None]
        chances = iter(self._session.run(["target_label"], {"bytes": np.stack(seen)})[0] if seen else ())
        answers = [
            (without_model(content), 1.0) if row is None else self._judge(next(chances))
            for content, row in zip(contents, rows, strict=True)
        ]
        labels, scores = zip(*answers, strict=True)
        return {"label": np.array(labels, object), "score": np.array(scores, np.float32)}

    def _judge(self, chances: np.ndarray) -> tuple[str, float]:
        """Return the best label, or the kind of content when the model is not sure enough of it."""
        best = int(chances.argmax())
        found, score = self._labels[best], float(chances[best])
        label = self._renamed.get(found, found)
        if score < self._thresholds.get(found, self._threshold):
            label = "txt" if label in self._text else "unknown"
        return label, score


def tokens(content: bytes) -> np.ndarray | None:
    """Return what the model sees of a content, or None when there is too little of it."""
    head = content[:BLOCK].lstrip()[:HALF]
    tail = content[-BLOCK:].rstrip()[-HALF:]
    if len(head) < FEWEST:
        return None
    row = np.full(2 * HALF, NO_BYTE, np.int32)
    row[: len(head)] = np.frombuffer(head, np.uint8)
    row[2 * HALF - len(tail) :] = np.frombuffer(tail, np.uint8)
    return row


def without_model(content: bytes) -> str:
    """Return the label of a content that is too short to be judged."""
    if not content:
        return "empty"
    try:
        content[:BLOCK].decode()
    except UnicodeDecodeError:
        return "unknown"
    return "txt"
