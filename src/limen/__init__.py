"""Limen puts a governed API in front of a machine-learning model.

This package root stays light: importing it loads nothing but its version, so that the command line answers at once. What it
exports is resolved on first use (PEP 562). It holds no logic; the composition root is `limen.app`.
"""

from limen._version import __version__

TYPE_CHECKING = False  # and not from `typing`: `-m` would take that from the working directory
if TYPE_CHECKING:
    from limen.contracts.errors import Refused
    from limen.notebook.packaged import package
    from limen.runtime.context import Context

__all__ = ["Context", "Refused", "__version__", "package"]

_LAZY: dict[str, str] = {
    "Context": "limen.runtime.context",
    "Refused": "limen.contracts.errors",
    "package": "limen.notebook.packaged",
}
"""Exported name → module that defines it; each name here is in `__all__` as well."""


def __getattr__(name: str) -> object:
    """Import an exported name from its module the first time it is asked for."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the exported names, loaded or not."""
    return sorted({*globals(), *__all__})
