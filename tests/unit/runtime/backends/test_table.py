"""The table of backends: the built-ins and what other distributions add stand in it alike."""

from importlib.metadata import EntryPoint

import pytest

from limen.contracts.errors import InvalidPackage, Reason
from limen.packaging.formats.known import Format
from limen.packaging.manifest.decoder import BACKENDS
from limen.runtime import backends


@pytest.fixture
def installed(monkeypatch):
    """Return a function that pretends other distributions bring these entry points."""
    # Both caches remember the real environment, before and after.
    backends._table.cache_clear()
    backends.backend.cache_clear()

    def install(*points):
        found = [EntryPoint(name, value, backends.GROUP) for name, value in points]
        monkeypatch.setattr(backends, "entry_points", lambda group: found if group == backends.GROUP else [])

    yield install
    backends._table.cache_clear()
    backends.backend.cache_clear()


def test_the_built_ins_are_those_a_manifest_may_name():
    assert tuple(backends.BUILT_IN) == BACKENDS


@pytest.mark.parametrize("name", backends.BUILT_IN)
def test_every_built_in_knows_its_name_and_formats(name):
    found = backends.backend(name)
    assert found.name == name
    assert set(found.formats) <= set(Format)


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(
        InvalidPackage, match="must be one of onnx, sklearn, xgboost, lightgbm, rules, torch, transformers, python"
    ):
        backends.backend("tensorflow")


def test_a_format_leads_to_its_backend():
    assert {f: found.name for f in Format if (found := backends.backend_for(f))} == {
        "onnx": "onnx",
        "skops": "sklearn",
        "xgboost-json": "xgboost",
        "xgboost-ubj": "xgboost",
        "lightgbm": "lightgbm",
        "jdm": "rules",
        "torch-export": "torch",
        "transformers": "transformers",
        "python": "python",
    }


def test_another_distribution_adds_a_backend_but_replaces_none(installed):
    other = "limen.runtime.backends.python:PythonBackend"
    installed(("mine", other), ("onnx", other))
    assert backends.names()[-1] == "mine"
    assert backends.backend("mine").name == "python"
    assert backends.backend("onnx").name == "onnx"


def test_a_backend_that_cannot_be_imported_is_told_so(installed):
    installed(("mine", "limen.nowhere:Backend"))
    with pytest.raises(InvalidPackage, match="mine is installed but cannot be imported") as caught:
        backends.backend("mine")
    assert caught.value.reason is Reason.MISSING_DEPENDENCY
