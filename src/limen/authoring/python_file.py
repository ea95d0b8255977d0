"""Reads a Python file without running it: its class and the names it uses. Called by `authoring.scaffolding`."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec

from limen.contracts.errors import InvalidPackage


class PythonFile(msgspec.Struct, frozen=True):
    """A file with one class that has `predict`."""

    class_name: str
    words: frozenset[str]
    """Texts in the code: among them the inputs that it speaks of."""

    @classmethod
    def of(cls, source: Path) -> PythonFile:
        """Read a file.

        Raises:
            InvalidPackage: it is no Python, or has not exactly one such class; the text says the line.
        """
        try:
            tree = ast.parse(source.read_bytes())
        except SyntaxError as exc:
            where = f"line {exc.lineno}" if exc.lineno else "it"
            raise InvalidPackage(f"{source.name} is not valid Python: {where}: {exc.msg}") from None
        except (ValueError, RecursionError, MemoryError) as exc:
            raise InvalidPackage(f"{source.name} is not valid Python: it cannot be parsed") from exc
        found = [
            node.name
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            and any(isinstance(item, ast.FunctionDef) and item.name == "predict" for item in node.body)
        ]
        if len(found) != 1:
            names = f": {', '.join(found)}" if found else ""
            raise InvalidPackage(
                f"{source.name} must hold exactly one class with a predict method; it has {len(found)}{names}"
            )
        words = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        return cls(found[0], frozenset(words))
