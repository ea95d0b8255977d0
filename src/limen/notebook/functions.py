"""Extracts the source of a function to be served, with everything it uses from its own module, as one Python file.

A function cannot be packaged as it is in memory: that would be a pickle. Its source can, if all that it uses is there to be written
down: modules that are installed, other functions and classes of the same notebook, and plain constants. Anything else is refused by
name, such as a fitted model, which has a format of its own.
"""

from __future__ import annotations

import ast
import dis
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from limen.contracts.errors import InvalidPackage

_HEAD: Final = '"""Made by limen.package from the function `{name}`."""\n'
_CLASS: Final = '''

class Model:
    """Calls `{name}` with the rows of a request."""

    def predict(self, inputs):
        answer = {name}({argument})
        if hasattr(answer, "columns"):
            answer = {{column: answer[column] for column in answer.columns}}
        if not isinstance(answer, dict):
            answer = {{"prediction": answer}}
        return {{field: _array(values) for field, values in answer.items()}}
'''
_FRAME: Final = "_DataFrame(inputs)"
_ARRAY: Final = 'inputs["{field}"]'
_COLUMNS: Final = "inputs"


def source_of(function: Callable[..., Any], *, takes_frame: bool, field: str) -> str:
    """Return a module with a class that calls a function.

    Args:
        function: a plain function.
        takes_frame: whether it takes a data frame.
        field: the only array that it takes; empty when it takes a dict of columns or a frame.

    Raises:
        InvalidPackage: it is no plain function, or uses something that cannot be written down.
    """
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        raise InvalidPackage("only a function defined with `def` can be packaged: its source code is served")
    found = _Definitions(function)
    found.add(function)
    imports = [
        "from numpy import asarray as _array",
        *(["from pandas import DataFrame as _DataFrame"] if takes_frame else []),
    ]
    argument = _FRAME if takes_frame else _ARRAY.format(field=field) if field else _COLUMNS
    parts = [_HEAD.format(name=function.__name__), "\n".join(sorted({*imports, *found.imports}))]
    parts += ["", *found.constants] if found.constants else []
    parts += [f"\n\n{text.rstrip()}" for text in found.sources]
    return "\n".join(parts) + "\n" + _CLASS.format(name=function.__name__, argument=argument)


class _Definitions:
    """Collects what a function uses, in an order in which it can be defined."""

    def __init__(self, root: FunctionType) -> None:
        self.root = root.__name__
        self.imports: list[str] = []
        self.constants: list[str] = []
        self.sources: list[str] = []
        self._seen: set[str] = set()

    def add(self, definition: Any) -> None:
        """Add the source of a function or a class after everything that it uses."""
        name = definition.__name__
        self._seen.add(name)
        try:
            text = textwrap.dedent(inspect.getsource(definition))
        except (OSError, TypeError) as exc:
            raise InvalidPackage(f"the source of {name} cannot be found; write it in a file or a cell") from exc
        tree = ast.parse(text).body[0]
        scope = vars(sys.modules[definition.__module__]) if isinstance(definition, type) else definition.__globals__
        if getattr(definition, "__closure__", None):
            inner = ", ".join(definition.__code__.co_freevars)
            raise InvalidPackage(
                f"{name} uses variables of its enclosing function ({inner}); define it at module level"
            )
        for used in dict.fromkeys([*_names_of(tree), *_globals_of(definition)]):
            if used in scope and used not in self._seen and used != name:
                self._use(used, scope[used], name)
        self.sources.append(text)

    def _use(self, name: str, value: Any, user: str) -> None:
        self._seen.add(name)
        if isinstance(value, ModuleType):
            self._import(value, name, user)
        elif isinstance(value, (FunctionType, type)) or callable(value):
            self._define(name, value, user)
        elif _is_constant(value):
            self.constants.append(f"{name} = {value!r}")
        else:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise InvalidPackage(
                f"{user} uses {name}, a {kind}, which cannot be written as source code; package that model itself, or "
                "write a class whose load method reads it from a file"
            )

    def _import(self, module: ModuleType, name: str, user: str) -> None:
        if not _is_installed(module):
            raise InvalidPackage(
                f"{user} uses the module {module.__name__}, which is not installed; copy the code it needs"
            )
        alias = "" if name == module.__name__ else f" as {name}"
        self.imports.append(f"import {module.__name__}{alias}")

    def _define(self, name: str, value: Any, user: str) -> None:
        module = inspect.getmodule(value)
        own_name = getattr(value, "__qualname__", "")
        if module is not None and module.__name__ != "__main__" and _is_installed(module):
            if not own_name.isidentifier() or getattr(module, own_name, None) is not value:
                raise InvalidPackage(f"{user} uses {name} of {module.__name__}, which has no importable name")
            alias = "" if name == own_name else f" as {name}"
            self.imports.append(f"from {module.__name__} import {own_name}{alias}")
        elif own_name == name and isinstance(value, (FunctionType, type)):
            self.add(value)
        else:
            raise InvalidPackage(f"{user} uses {name}, which is not defined under that name; use its original name")


def _names_of(tree: ast.stmt) -> Iterator[str]:
    """Yield what is looked up where a definition stands: decorators, defaults, annotations, bases and the body of a class."""
    if isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef)):
        outside: list[ast.AST | None] = [*tree.decorator_list, tree.args, tree.returns]
    else:
        outside = [tree]
    for part in outside:
        for node in ast.walk(part) if part is not None else ():
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                yield node.id


def _globals_of(definition: Any) -> Iterator[str]:
    """Yield the global names that the code of a function reads, in the functions inside it as well."""
    waiting = [definition.__code__] if isinstance(definition, FunctionType) else []
    while waiting:
        code: CodeType = waiting.pop()
        yield from (i.argval for i in dis.get_instructions(code) if i.opname in {"LOAD_GLOBAL", "LOAD_NAME"})
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _is_installed(module: ModuleType) -> bool:
    """Whether another process finds a module: it is built in, of the standard library, or in site-packages."""
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ in sys.builtin_module_names or hasattr(module, "__path__")
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(Path(file).resolve().is_relative_to(Path(place).resolve()) for place in places)


def _is_constant(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
