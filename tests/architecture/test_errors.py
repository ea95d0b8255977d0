"""The error tree is drawn as it is, and every protocol can tell every code."""

import importlib
import pkgutil
import re

import limen
from limen.contracts import errors
from limen.contracts.errors import ErrorCode, LimenError


def subclasses(root: type[LimenError]) -> list[type[LimenError]]:
    """List all error classes, parents first."""
    found = []
    for child in root.__subclasses__():
        found += [child, *subclasses(child)]
    return found


def test_every_error_class_is_drawn_in_the_tree():
    drawn = re.findall(r"(?:├──|└──) (\w+)", errors.__doc__ or "")
    defined = [error.__name__ for error in subclasses(LimenError) if error.__module__ == errors.__name__]
    assert drawn == defined


def test_every_error_class_says_its_default_message():
    assert [error.__name__ for error in subclasses(LimenError) if not (error.__doc__ or "").strip()] == []


def test_every_error_class_carries_a_code():
    assert [error.__name__ for error in subclasses(LimenError) if error.code not in ErrorCode] == []


def test_every_table_keyed_by_error_code_covers_all_of_them():
    """Each gateway maps codes to its own status in one dict; a code added later must not fall through."""
    partial = {}
    for info in pkgutil.walk_packages(limen.__path__, "limen."):
        if not info.name.startswith(("limen.gateway", "limen.admin", "limen.cli")) or "_generated" in info.name:
            continue
        for name, value in vars(importlib.import_module(info.name)).items():
            if isinstance(value, dict) and value and all(isinstance(key, ErrorCode) for key in value):
                missing = set(ErrorCode) - set(value)
                if missing:
                    partial[f"{info.name}.{name}"] = sorted(missing)
    assert partial == {}
