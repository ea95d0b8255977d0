"""The package root is small, pinned and light; optional libraries stay optional."""

import subprocess
import sys
from pathlib import Path

import pytest

import limen
from tests.architecture.source import SOURCE

EXPORTS = {"Context", "Refused", "__version__", "package"}

EXTRAS = (
    "OpenSSL", "cryptography", "fsspec", "lightgbm", "model_signing", "onnx", "onnxruntime", "pandas", "psycopg", "s3fs",
    "safetensors", "scipy", "sigstore", "sklearn", "skops", "tokenizers", "torch", "transformers", "xgboost", "zen",
)  # fmt: skip
"""What a plain `pip install limen` does not bring."""

HEAVY = (
    *EXTRAS, "alembic", "google.protobuf", "grpc", "httpx", "litestar", "numpy", "simdjson", "sqlalchemy", "uvicorn", "uvloop",
)  # fmt: skip
"""What the command line must not load before it knows what it is asked for."""

HELP_MODULES = 300
"""How many modules `limen --help` may load, those of Python included."""

WITHOUT_EXTRAS = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

EXTRAS = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Absent())
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter."""
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_exports_are_pinned():
    assert set(limen.__all__) == EXPORTS


def test_every_export_exists():
    assert [name for name in limen.__all__ if not hasattr(limen, name)] == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        limen.nonsense  # noqa: B018


def test_star_import_works_without_extras():
    done = run(WITHOUT_EXTRAS + "from limen import *\nassert __version__", ",".join(EXTRAS))
    assert done.returncode == 0, done.stderr


def test_every_module_imports_without_extras():
    """Only the adapter of an optional library may need it when imported; it is imported when a package asks for it."""
    program = """
import importlib, pkgutil, limen
for info in pkgutil.walk_packages(limen.__path__, "limen."):
    if info.name.startswith("limen.runtime.backends.") or info.name == "limen.__main__":
        continue
    try:
        importlib.import_module(info.name)
    except ModuleNotFoundError as error:
        sys.exit(f"{info.name} needs {error.name} to be imported")
"""
    done = run(WITHOUT_EXTRAS + program, ",".join(EXTRAS))
    assert done.returncode == 0, done.stderr


def test_the_package_root_loads_nothing_else():
    done = run("""
import sys
import limen
print(*sorted(name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names))
""")
    assert [name for name in done.stdout.split() if name.startswith("limen")] == ["limen", "limen._version"]
    assert [name for name in done.stdout.split() if name.partition(".")[0] in HEAVY] == []


def test_the_package_is_typed(repository: Path):
    assert (repository / "src/limen/py.typed").is_file()


needs_cli = pytest.mark.skipif(not (SOURCE / "limen/cli/__init__.py").is_file(), reason="no CLI yet")


@needs_cli
def test_the_command_line_loads_nothing_heavy():
    done = run("import sys, limen.cli; print(*[name for name in sys.argv[1:] if name in sys.modules])", *HEAVY)
    assert done.stdout.split() == [], done.stderr


def test_the_client_loads_its_libraries_when_they_are_needed():
    done = run(
        "import sys, limen.client; print(*[name for name in sys.argv[1:] if name in sys.modules])", *HEAVY, "httpx"
    )
    assert done.stdout.split() == [], done.stderr


@needs_cli
def test_help_answers_at_once():
    """Modules count, not time: what a start costs is what it imports, on a busy machine too."""
    done = run("""
import contextlib, io, sys
sys.argv = ["limen", "--help"]
from limen.cli import app
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    app()
print(len(sys.modules))
""")
    assert int(done.stdout) < HELP_MODULES, done.stderr
