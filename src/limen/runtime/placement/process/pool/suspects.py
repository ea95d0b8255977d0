"""Requests that crash replicas. A request that was alone in flight at a second crash is quarantined and not run again.

Requests are known by a fingerprint of their tensors and parameters, so that the same request is the same whoever sends it and through
which gateway. Called by `pool`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from limen.contracts.errors import ModelFailed, Reason
from limen.contracts.inference import InferenceRequest

MAX_SUSPECTS: Final = 4096
"""Fingerprints that are remembered after one crash; the oldest are forgotten."""


def fingerprint(request: InferenceRequest) -> str:
    """Return 32 hexadecimal digits that stand for a request's tensors and parameters."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(request.inputs):
        array = request.inputs[name]
        digest.update(repr((name, array.dtype.name, array.shape)).encode())
        if array.dtype.kind == "O":
            digest.update(repr(array.ravel().tolist()).encode("utf-8", "surrogatepass"))
        else:
            digest.update(np.ascontiguousarray(array).tobytes())
    if request.parameters:
        digest.update(repr(sorted(request.parameters.items(), key=lambda item: item[0])).encode("utf-8", "replace"))
    return digest.hexdigest()


def poisoned(hang_after_s: float = 0.0) -> ModelFailed:
    """Return what a quarantined request is answered with; `hang_after_s` is set when the model was too slow for it."""
    if hang_after_s:
        text = (
            f"the model took longer than serving.hang_after_s ({hang_after_s:g} s) for this request twice, and its process"
            " was ended each time; the request is not run again. A model that needs longer sets a larger"
            " serving.hang_after_s in its model.yaml"
        )
    else:
        text = "this request has ended the model's process twice and is not run again"
    return ModelFailed(text, reason=Reason.MODEL_CRASH)


class Suspects:
    """Counts crashes by fingerprint."""

    def __init__(self, on_poison: Callable[[str], None]) -> None:
        """Tell `on_poison` about every fingerprint that is quarantined here."""
        self.quarantined: set[str] = set()
        self._crashes: dict[str, int] = {}
        self._slow: dict[str, float] = {}
        """The `hang_after_s` that quarantined requests took longer than."""
        self._on_poison = on_poison

    def crashed(
        self, requests: Iterable[InferenceRequest], *, was_alone: bool, hang_after_s: float = 0.0
    ) -> ModelFailed | None:
        """Count a crash, or a hang, for everyone who was in hand; return the answer to the one that was alone if it is quarantined now."""
        poison = None
        for request in requests:
            mark = fingerprint(request)
            count = self._crashes.pop(mark, 0) + 1
            if was_alone and count > 1:
                poison = poisoned(hang_after_s)
                if hang_after_s:
                    self._slow[mark] = hang_after_s
                self.quarantined.add(mark)
                self._on_poison(mark)
            else:
                self._crashes[mark] = count
        while len(self._crashes) > MAX_SUSPECTS:
            del self._crashes[next(iter(self._crashes))]
        return poison

    def cleared(self, request: InferenceRequest) -> None:
        """Forget a suspect that was answered when it was tried again."""
        self._crashes.pop(fingerprint(request), None)

    def judge(self, request: InferenceRequest) -> ModelFailed | None:
        """Return the answer to a request that may not be run; None for every other."""
        if not self.quarantined or (mark := fingerprint(request)) not in self.quarantined:
            return None
        return poisoned(self._slow.get(mark, 0.0))
