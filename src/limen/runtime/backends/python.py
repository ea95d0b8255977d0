"""Models that are a Python class: `artifact: model.py:CreditModel`.

    class CreditModel:                                    # plain, no base class
        def load(self, path: Path) -> None: ...           # optional; the package folder
        def predict(self, inputs: dict[str, ndarray]) -> dict[str, ndarray]: ...   # a second argument takes the parameters;
                                                                                   # one named `context` more (`limen.Context`)
        def stream(self, inputs) -> Iterator[dict[str, ndarray]]: ...              # optional
        def close(self) -> None: ...                      # optional

Loading runs the package's code with all rights of the process. Whether that is wanted has been decided by whoever calls `load`
(`Manifest.needs_trust`); nothing here asks again.

Imports: a package's modules live under a name of their own, so two packages may both have a `model.py`, and nothing is put on
`sys.path`. Inside the package `import features` and `from features import x` find the package's own `features.py` first, at any
time; other code never sees it. (`importlib.import_module("features")` does not know who asks and looks on `sys.path` only; write
`importlib.import_module(".features", __package__)`.) Compiled files are neither read nor written: a package is never changed.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar, Final

import numpy as np

from limen.contracts.errors import InvalidPackage, LimenError, ModelFailed, Reason, Refused
from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array
from limen.packaging.formats.sniff import ensure_format
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends.artifact import LOG, artifact_file, failed
from limen.runtime.context import NAME as CONTEXT
from limen.runtime.context import context_of
from limen.runtime.predictor import Signature
from limen.telemetry.logs import ABOUT_A_PACKAGE

_PREFIX: Final = "limen_package_"
_NUMBERS: Final = itertools.count(1)


class PythonBackend:
    """Loads Python classes."""

    name: ClassVar[str] = "python"
    formats: ClassVar[tuple[str, ...]] = ("python",)

    def load(self, path: Path, manifest: Manifest) -> PythonModel:
        """Import the package's module, make one instance of its class and let it load its files."""
        file = artifact_file(path, manifest, self.formats)
        class_name = manifest.artifact.partition(":")[2]
        code = PackageCode(file.parent, path.resolve())
        try:
            is_batched = manifest.contract.batching.is_batched
            instance = _instance(code, file, class_name, path)
            return PythonModel(instance, code, name=manifest.contract.name, is_batched=is_batched)
        except BaseException:
            code.forget()
            raise

    def describe(self, artifact: Path, sample: Mapping[str, Array] | None = None) -> Signature:
        """Return an empty signature: a class declares no tensors, and describing a file never runs it."""
        ensure_format(artifact, self.formats)
        return Signature((), ())


class PythonModel:
    """One instance of a package's class. One call at a time."""

    signature = Signature((), ())
    mixes_rows = ""

    def __init__(self, instance: Any, code: PackageCode, *, name: str = "", is_batched: bool = True) -> None:
        self._instance = instance
        self._is_batched = is_batched
        self._code = code
        self._predict = _method(instance, "predict", name)
        self.can_stream = hasattr(instance, "stream")
        self._stream = _method(instance, "stream", name) if self.can_stream else None
        self.wants_context = any(_asks(instance, method) for method in ("predict", "stream"))

    def predict(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        """Call the class's `predict`."""
        try:
            return _tensors(self._predict(inputs, parameters), is_batched=self._is_batched)
        except (ModelFailed, Refused):
            raise
        except (Exception, SystemExit) as exc:
            raise failed("the model's predict", exc) from exc

    def stream(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> Iterator[dict[str, Array]]:
        """Iterate over the class's `stream`; the one answer of `predict` when it has none."""
        if self._stream is None:
            yield self.predict(inputs, parameters)
            return
        parts: Any = None
        try:
            parts = self._stream(inputs, parameters)
            for part in parts:
                yield _tensors(part, is_batched=self._is_batched)
        except (ModelFailed, Refused):
            raise
        except (Exception, SystemExit) as exc:
            raise failed("the model's stream", exc) from exc
        finally:
            # The class's own clean-up runs when the caller leaves early, not when the garbage collector comes by.
            if hasattr(parts, "close"):
                parts.close()

    def close(self) -> None:
        """Call the class's `close`, if it has one, and forget the package's modules."""
        instance, self._instance = self._instance, None
        if instance is None:
            return
        try:
            if hasattr(instance, "close"):
                instance.close()
        except Exception as exc:  # noqa: BLE001 - nobody is left to tell
            LOG.warning("the model's close failed", exc_info=exc)
        finally:
            self._code.forget()


def _instance(code: PackageCode, file: Path, class_name: str, folder: Path) -> Any:
    where = f"artifact: {file.name}"
    try:
        module = code.module(file)
        kind = getattr(module, class_name, None)
        if not isinstance(kind, type):
            raise InvalidPackage(f"{where} has no class {class_name}")
        if not callable(getattr(kind, "predict", None)):
            raise InvalidPackage(f"{where}: the class {class_name} needs a method predict(self, inputs)")
        instance = kind()
        if hasattr(instance, "load"):
            instance.load(folder)
    except LimenError:
        raise
    except ModuleNotFoundError as exc:
        LOG.warning("%s could not be imported", file.name, exc_info=exc, extra=ABOUT_A_PACKAGE)
        missing = str(exc.name).removeprefix(f"{code.name}.")
        text = f"{where} needs the Python module {missing}, which is not installed here"
        raise InvalidPackage(text, reason=Reason.MISSING_DEPENDENCY) from exc
    except (Exception, SystemExit) as exc:
        LOG.warning("%s could not be loaded", file.name, exc_info=exc, extra=ABOUT_A_PACKAGE)
        raise InvalidPackage(f"{where} raised {type(exc).__name__} while loading; see the log") from exc
    return instance


Call = Callable[[dict[str, Array], Mapping[str, Parameter]], Any]


def _asks(instance: Any, name: str) -> bool:
    """Return whether a method has a parameter for the context."""
    return CONTEXT in inspect.signature(getattr(instance, name, _nothing)).parameters


def _nothing() -> None:
    """Stand in for a method that a class does not have."""


def _method(instance: Any, name: str, model: str) -> Call:
    """Return a method of the instance as a function of inputs and parameters."""
    method = getattr(instance, name)
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise InvalidPackage(f"artifact: {name} must be a plain method, not an async one")
    if _asks(instance, name):
        return lambda inputs, parameters: method(inputs, **{CONTEXT: context_of(model, parameters)})
    try:
        inspect.signature(method).bind({}, {})
    except TypeError:
        return lambda inputs, _: method(inputs)
    # A dict of its own: what a model does to its parameters stays in its call.
    return lambda inputs, parameters: method(inputs, dict(context_of(model, parameters).parameters))


def _tensors(answer: Any, *, is_batched: bool) -> dict[str, Array]:
    """Return a class's answer as arrays, or say what is wrong with it."""
    if not isinstance(answer, Mapping):
        raise ModelFailed("The model must answer with a dict of output names and arrays.")
    found: dict[str, Array] = {}
    for name, value in answer.items():
        if not isinstance(name, str):
            raise ModelFailed("The model must name its outputs with strings.")
        array = value if isinstance(value, np.ndarray) else _array(value, name)
        if array.ndim == 0 and is_batched:
            raise ModelFailed(f"The model's output {name} must have one entry for each row.")
        found[name] = array
    return found


def _array(value: Any, name: str) -> Array:
    if isinstance(value, Sequence) and value and _is_text(value):
        return np.array(value, object)
    try:
        return np.asarray(value)
    except ValueError as exc:
        raise ModelFailed(f"The model's output {name} has rows of different lengths.") from exc


def _is_text(value: Any) -> bool:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return value is None or isinstance(value, (str, bytes))


class PackageCode:
    """The modules of one package folder, under a name that no other package has."""

    def __init__(self, *folders: Path) -> None:
        self.name = f"{_PREFIX}{next(_NUMBERS)}"
        if _FINDER not in sys.meta_path:
            sys.meta_path.insert(0, _FINDER)
        paths = list(dict.fromkeys(map(str, folders)))
        # A package may have been unpacked a moment ago, into a folder the import system has looked at before. Only what it knows of
        # these is forgotten: `importlib.invalidate_caches` breaks off when another thread imports meanwhile.
        for path in list(sys.path_importer_cache):
            if path in paths or path.startswith(tuple(f"{root}{os.sep}" for root in paths)):
                sys.path_importer_cache.pop(path, None)
        root = ModuleType(self.name)
        root.__path__ = paths
        sys.modules[self.name] = root

    def module(self, file: Path) -> ModuleType:
        """Import one file of the package's folders."""
        return importlib.import_module(f"{self.name}.{file.stem}")

    def forget(self) -> None:
        """Let go of the package's modules; idempotent."""
        for name in [n for n in list(sys.modules) if n.partition(".")[0] == self.name]:
            del sys.modules[name]


class _PackageFinder:
    """Finds the modules of packages, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a package's module is and that `_SourceLoader` loads it."""
        if not fullname.startswith(_PREFIX):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _SourceLoader(spec.loader.name, spec.loader.path)
            spec.cached = None
        return spec


_FINDER: Final = _PackageFinder()


class _SourceLoader(SourceFileLoader):
    """Runs a module from its source, with an `import` that looks among its siblings first."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source: a .pyc in the package would be code that nobody has read."""
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own `__import__`, then run it."""
        package = module.__name__.partition(".")[0]
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": _import_in(package)}
        super().exec_module(module)


def _import_in(package: str) -> Callable[..., Any]:
    folders = sys.modules[package].__path__

    @cache
    def is_own(head: str) -> bool:
        spec = PathFinder.find_spec(f"{package}.{head}", folders)
        # A folder without __init__.py has no loader: data/ must not hide an installed `data`.
        return spec is not None and spec.loader is not None

    def imported(
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the names of builtins.__import__
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        head = name.partition(".")[0]
        if level or not is_own(head):
            return builtins.__import__(name, globals, locals, fromlist, level)
        found = builtins.__import__(f"{package}.{name}", globals, locals, fromlist, 0)
        return found if fromlist else sys.modules[f"{package}.{head}"]

    return imported
