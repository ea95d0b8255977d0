"""Nothing that exists cannot be set: every field of a package's configuration is a setting, and something reads it."""

import ast
import importlib

import msgspec

from limen.settings import KINDS, SECTIONS
from tests.architecture.source import modules

INTERNAL = {"ControlConfig"}
"""What the composition root makes of settings for one process."""


def configurations() -> set[type[msgspec.Struct]]:
    """Find the structs of all modules called `config`, under whatever name."""
    found = set()
    for module in modules():
        if module.name.rpartition(".")[2] == "config" and not module.name.startswith("limen.cli"):
            here = importlib.import_module(module.name)
            found |= {
                kind
                for kind in vars(here).values()
                if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == here.__name__
            }
    return {kind for kind in found if kind.__name__ not in INTERNAL}


def test_every_configuration_of_a_package_is_a_section():
    assert configurations() <= set(SECTIONS.values())


def test_sections_have_the_names_of_the_design():
    assert [*SECTIONS] == ["serve", "http", "grpc", "admission", "registry", "trust", "publish", "admin", "log"]


def test_every_setting_is_read_by_something():
    read = {
        node.attr
        for module in modules()
        if not module.name.startswith("limen.settings")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
    }
    assert {key for key in KINDS if key.partition(".")[2] not in read} == set()
