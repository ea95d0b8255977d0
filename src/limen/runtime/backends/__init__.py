"""The backends by name: one for each kind of package.

Each backend is an entry point of the group `limen.backends`; the built-ins stand in the same table, so an installed
distribution adds one exactly as they are added here. Nothing heavy is imported before a model is loaded or described.
Not here: choosing placements or asking for trust (`limen.serving` does). Called by the placements, `limen init` and
`limen check`.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from limen.contracts.errors import InvalidPackage, Reason
from limen.runtime.predictor import Backend

GROUP: Final = "limen.backends"
BUILT_IN: Final = {
    "onnx": "limen.runtime.backends.onnx:OnnxBackend",
    "sklearn": "limen.runtime.backends.sklearn:SklearnBackend",
    "xgboost": "limen.runtime.backends.xgboost:XgboostBackend",
    "lightgbm": "limen.runtime.backends.lightgbm:LightgbmBackend",
    "rules": "limen.runtime.backends.rules:RulesBackend",
    "torch": "limen.runtime.backends.torch:TorchBackend",
    "transformers": "limen.runtime.backends.transformers:TransformersBackend",
    "python": "limen.runtime.backends.python:PythonBackend",
}


@cache
def _table() -> dict[str, EntryPoint]:
    installed = {point.name: point for point in entry_points(group=GROUP)}
    # A distribution cannot take the place of a built-in: what `backend: onnx` means must not depend on what is installed.
    return installed | {name: EntryPoint(name, value, GROUP) for name, value in BUILT_IN.items()}


def names() -> tuple[str, ...]:
    """Return the names of all backends, the built-ins first."""
    return (*BUILT_IN, *sorted(_table().keys() - BUILT_IN.keys()))


@cache
def backend(name: str) -> Backend:
    """Return the backend of that name.

    Raises:
        InvalidPackage: there is none, or the distribution that brings it cannot be imported.
    """
    point = _table().get(name)
    if point is None:
        raise InvalidPackage(f"backend: must be one of {', '.join(names())}")
    try:
        found: Backend = point.load()()
    except ImportError as exc:
        text = f"backend: {point.name} is installed but cannot be imported"
        raise InvalidPackage(text, reason=Reason.MISSING_DEPENDENCY) from exc
    return found


def backend_for(file_format: str) -> Backend | None:
    """Return the backend that loads files of this format (a name given by `packaging.formats.sniff`), or None."""
    return next((found for found in map(backend, names()) if file_format in found.formats), None)
