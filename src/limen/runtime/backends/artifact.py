"""Steps shared by all backends: find the file, refuse the wrong kind, hide foreign errors.

Not here: what is inside a file; each backend knows its own format. Called by the backends only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from limen.contracts.errors import InvalidPackage, LimenError, ModelFailed, Reason
from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array
from limen.packaging.formats.sniff import ensure_format
from limen.packaging.manifest.values import Manifest
from limen.packaging.paths import ensure_inside
from limen.runtime.predictor import Signature
from limen.runtime.sandbox.quiet import silence
from limen.telemetry.logs import ABOUT_A_PACKAGE

LOG: Final = logging.getLogger("limen.model")
"""Where the texts of foreign exceptions go; callers never see them."""


def artifact_file(folder: Path, manifest: Manifest, formats: tuple[str, ...]) -> Path:
    """Return the artifact's path after looking at what the file really is.

    Raises:
        InvalidPackage: no such file, outside the package, a pickle, or another format than `formats`.
    """
    path = ensure_inside(folder, manifest.artifact_path)
    ensure_format(path, formats)
    return path


def require(module: str, install: str) -> Any:
    """Import an optional library, which does not report its use to anybody.

    Raises:
        InvalidPackage: MISSING_DEPENDENCY, saying what to install.
    """
    silence()
    try:
        return import_module(module)
    except ImportError as exc:
        text = f"backend: this package needs {module.partition('.')[0]}: install {install}"
        raise InvalidPackage(text, reason=Reason.MISSING_DEPENDENCY) from exc


@contextmanager
def loading(library: str) -> Iterator[None]:
    """Turn whatever a library raises while it reads a file into `InvalidPackage`; its own text goes to the log."""
    try:
        yield
    except LimenError:
        raise
    except Exception as exc:
        LOG.warning("%s refused an artifact", library, exc_info=True, extra=ABOUT_A_PACKAGE)
        text = f"artifact: {library} cannot load this file; see the log"
        raise InvalidPackage(text) from exc


def failed(library: str, cause: BaseException) -> ModelFailed:
    """Return the error that callers may see; raise it `from cause`, which whoever knows the request logs."""
    error = ModelFailed()
    error.__cause__ = cause
    error.add_note(f"{library} failed on a request")
    return error


class OneAnswer:
    """A loaded model that gives each answer in one part and holds nothing but memory."""

    signature: Signature
    can_stream = False
    mixes_rows = ""
    wants_context = False

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Run the artifact on its own tensors and return its own output tensors by name."""
        raise NotImplementedError

    def stream(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> Iterator[dict[str, Array]]:
        """Yield the one answer."""
        yield self.predict(inputs, parameters)

    def close(self) -> None:
        """Do nothing: the memory goes with the object."""
