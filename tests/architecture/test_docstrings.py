"""Everything public says what it promises."""

import ast

from tests.architecture.source import modules, public_definitions


def test_every_public_module_says_what_it_is():
    silent = [module.name for module in modules() if module.is_public and ast.get_docstring(module.tree) is None]
    assert silent == []


def test_every_public_class_and_function_has_a_docstring():
    silent = [
        f"{module.name}.{name}"
        for module in modules()
        if module.is_public
        for name, definition in public_definitions(module.tree.body)
        if ast.get_docstring(definition) is None
    ]
    assert silent == []


def test_no_class_hides_behind_an_empty_suffix():
    """Names say what a thing is; `VersionManager` is the one exception the architecture makes."""
    suffixes = ("Manager", "Handler", "Helper", "Util", "Utils", "Base", "Abstract", "Impl")
    vague = [
        f"{module.name}.{node.name}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and node.name.endswith(suffixes) and node.name != "VersionManager"
    ]
    assert vague == []


def test_no_package_is_a_drawer():
    """A module called utils says nothing about what belongs into it."""
    drawers = {"util", "utils", "common", "core", "helper", "helpers", "misc"}
    assert [module.name for module in modules() if drawers & set(module.name.split("."))] == []
