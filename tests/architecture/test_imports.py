"""Who may import what. The layers are import-linter's contract in pyproject.toml; the rules here are about everything else."""

import logging.config
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tests.architecture.source import ROOT

ONLY = {
    # what is imported: the packages of ours that may (empty: nobody)
    "aiohttp": ("limen.storage.s3",),
    "alembic": ("limen.storage",),
    "botocore": ("limen.storage.s3",),
    "fastapi": (),
    "grpc": ("limen.gateway.grpc", "limen.admin", "limen.client"),
    "grpc_health": ("limen.gateway.grpc",),
    "grpc_reflection": ("limen.gateway.grpc",),
    "h2": ("limen.gateway", "limen.admin"),
    "httpx": ("limen.client", "limen.cli", "limen.packaging.importers"),
    "httptools": ("limen.gateway.engine",),
    "lightgbm": ("limen.runtime.backends", "limen.packaging", "limen.cli"),
    "onnx": ("limen.runtime.backends", "limen.packaging", "limen.cli"),
    "onnxruntime": ("limen.runtime.backends", "limen.packaging", "limen.cli"),
    "prometheus_client": (),
    "pygrpc_native": ("limen.gateway.grpc",),
    "ray": ("limen.runtime.placement.ray",),
    "re2": ("limen.contracts.strict.patterns",),
    "rich": ("limen.cli",),
    "litestar": ("limen.admin",),
    "s3fs": ("limen.storage.s3",),
    "safetensors": ("limen.runtime.backends",),
    "sqlalchemy": (
        "limen.storage",
        "limen.registry",
        "limen.traffic.endpoint_store",
        "limen.management",
        "limen.publishing",
        "limen.admin",
    ),
    "sklearn": ("limen.runtime.backends", "limen.packaging", "limen.cli"),
    "skops": ("limen.runtime.backends", "limen.packaging", "limen.cli"),
    "starlette": ("limen.gateway", "limen.admin"),
    "tokenizers": ("limen.runtime.backends",),
    "torch": ("limen.runtime.backends",),
    "transformers": ("limen.runtime.backends",),
    "typer": ("limen.cli",),
    "uvicorn": ("limen.gateway", "limen.admin", "limen.app"),
    "uvloop": ("limen.gateway", "limen.app", "limen.cli", "limen.runtime.placement"),
    "xgboost": ("limen.runtime.backends", "limen.packaging", "limen.cli"),
    # never in the product: formats that run code when they are read
    "cloudpickle": (),
    "dill": (),
    # but in the one process that unpickles: to convert, once, without network and files, when it is told to
    "joblib": ("limen.authoring.conversion.program",),
    "pickle": ("limen.testing.backends",),
    "shelve": (),
    "marshal": (),
}

PURE = (
    *("limen.contracts", "limen.traffic.rollout", "limen.traffic.admission", "limen.traffic.limit"),
    *("limen.runtime.versions.policy", "limen.serving.fleet.scaling"),
)
"""Decide, describe, compute; touch neither the outside nor a framework."""

PURE_MAY_IMPORT = {"limen", "google", "ml_dtypes", "msgspec", "numpy", "orjson", "re2", "simdjson", "yaml"}
"""Values, arrays and text formats. Everything else that is pure comes from the standard library."""

IO = {
    *("asyncio", "concurrent", "ctypes", "fcntl", "ftplib", "http", "mmap", "multiprocessing", "selectors", "shutil"),
    *("signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "urllib"),
}

GATEWAYS_SEE = ("limen.serving.dataplane", "limen.serving.link")
"""All that gateways know of what runs."""

SIBLINGS = {
    "limen.gateway": ("http", "grpc", "openai"),
    "limen.runtime.placement": ("inline", "process", "ray"),
}
"""Packages under one parent that do not know each other."""


@cache
def graph() -> grimp.ImportGraph:
    """Build the import graph of the source tree, the modules of other packages included."""
    return grimp.build_graph("limen", include_external_packages=True, cache_dir=None)


def inside(module: str, packages: tuple[str, ...]) -> bool:
    """Tell whether a module is one of the packages or below one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imports() -> Iterator[tuple[str, str]]:
    """Yield (importer, imported) for our modules, generated ones left out."""
    for importer in sorted(graph().modules):
        if inside(importer, ("limen",)) and "_generated" not in importer:
            for imported in sorted(graph().find_modules_directly_imported_by(importer)):
                yield importer, imported


def test_imports_point_down_the_layers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(ROOT)
    # It configures logging for a command line: every logger that exists would be silent in the tests after this one.
    monkeypatch.setattr(logging.config, "dictConfig", lambda settings: None)
    assert lint_imports(no_cache=True, no_logo=True) == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_libraries_are_imported_only_where_they_belong():
    strays = [
        f"{importer} imports {imported}"
        for importer, imported in imports()
        if (library := imported.partition(".")[0]) in ONLY and not inside(importer, ONLY[library])
    ]
    assert strays == []


def test_pure_packages_import_no_framework_and_no_io():
    strays = [
        f"{importer} imports {imported}"
        for importer, imported in imports()
        if inside(importer, PURE)
        and (library := imported.partition(".")[0]) not in PURE_MAY_IMPORT
        and (library in IO or library not in sys.stdlib_module_names)
    ]
    assert strays == []


def test_only_what_people_use_imports_the_client():
    strays = [
        f"{importer} imports {imported}"
        for importer, imported in imports()
        if inside(imported, ("limen.client",)) and not inside(importer, ("limen.client", "limen.cli", "limen.notebook"))
    ]
    assert strays == []


def test_nothing_ships_with_the_tests_inside():
    """`limen.testing` is public, but the product does not run on it."""
    strays = [
        f"{importer} imports {imported}"
        for importer, imported in imports()
        if inside(imported, ("limen.testing",)) and not inside(importer, ("limen.testing",))
    ]
    assert strays == []


@pytest.mark.parametrize("parent", SIBLINGS)
def test_siblings_do_not_know_each_other(parent: str):
    packages = [f"{parent}.{name}" for name in SIBLINGS[parent]]
    strays = [
        f"{importer} imports {imported}"
        for importer, imported in imports()
        for package in packages
        if inside(importer, (package,)) and inside(imported, tuple(p for p in packages if p != package))
    ]
    assert strays == []


def test_gateways_see_only_the_data_plane_and_the_link():
    strays = [
        f"{importer} imports {imported}"
        for importer, imported in imports()
        if inside(importer, ("limen.gateway",))
        and inside(imported, ("limen.serving",))
        and not inside(imported, GATEWAYS_SEE)
    ]
    assert strays == []


def test_the_management_api_never_sees_what_runs():
    strays = [
        f"{importer} imports {imported}"
        for importer, imported in imports()
        if inside(importer, ("limen.admin",)) and inside(imported, ("limen.serving",))
    ]
    assert strays == []


def test_no_import_goes_in_a_circle():
    """Imports under `TYPE_CHECKING` count: two modules that know each other's types are one module in two files."""
    after: dict[str, set[str]] = {}
    for importer, imported in imports():
        if inside(imported, ("limen",)):
            after.setdefault(importer, set()).add(imported)
    order = TopologicalSorter(after)
    try:
        order.prepare()
    except CycleError as exc:
        pytest.fail(" → ".join(exc.args[1]))
