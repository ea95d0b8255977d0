"""Every path a gateway serves, taken from its own table, so that no path is forgotten when one is added."""

from __future__ import annotations

from tests.conformance.serving.gateway import Gateway


def every_path(gateway: Gateway, model: str = "pair", version: str = "1") -> dict[str, set[str]]:
    """Return path to methods, with every per-model path in both version forms."""
    router = gateway.server.state.application._router
    found = {path: _methods(handlers) for path, handlers in router._fixed.items()}
    for template, handlers in router._per_model.items():
        found[template.replace("{m}", model)] = _methods(handlers)
        if not template.endswith(".proto"):
            found[template.replace("{m}", f"{model}/versions/{version}")] = _methods(handlers)
    return found


def _methods(handlers) -> set[str]:
    methods = {method.decode() for method in handlers}
    return methods | {"HEAD"} if "GET" in methods else methods
