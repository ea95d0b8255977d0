"""The Open Inference Protocol's names for backends."""

from __future__ import annotations

from typing import Final

_PLATFORMS: Final = {
    "onnx": "onnx_onnxv1",
    "sklearn": "sklearn_skops",
    "xgboost": "xgboost_booster",  # JSON or UBJ: one model, two spellings
    "lightgbm": "lightgbm_text",
    "rules": "gorules_jdm",
    "torch": "pytorch_export",
    "transformers": "huggingface_safetensors",
    "python": "python",
}


def platform_of(backend: str) -> str:
    """Return OIP's platform name of a backend, `<project>_<format>`."""
    return _PLATFORMS.get(backend, backend)
