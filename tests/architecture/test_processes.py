"""Child processes are started in one way, and each imports only what it uses."""

import ast
import subprocess
import sys

import pytest

from tests.architecture.source import modules

STARTER = "limen.runtime.sandbox.child"
STARTS = {
    *("Popen", "create_subprocess_exec", "create_subprocess_shell", "check_call", "check_output", "system", "popen"),
    *(
        "posix_spawn",
        "posix_spawnp",
        "execv",
        "execve",
        "execvp",
        "execvpe",
        "spawnv",
        "spawnve",
        "ProcessPoolExecutor",
    ),
}


def test_only_one_module_starts_programs():
    strays = [
        f"{module.name}:{node.lineno} {name}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and (name := getattr(node.func, "attr", getattr(node.func, "id", ""))) in STARTS
        and module.name != STARTER
    ]
    assert strays == [], f"start processes with {STARTER}"


def test_only_one_module_knows_the_interpreter():
    strays = [
        f"{module.name}:{node.lineno}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr == "executable" and module.name != STARTER
    ]
    assert strays == [], f"{STARTER}.python gives the command of a process"


FACES = {"typer", "rich", "litestar", "jinja2"}
LIBRARIES = {"onnx", "onnxruntime", "sklearn", "pandas", "scipy", "xgboost", "lightgbm", "torch", "pyarrow"}
DATABASE = {"sqlalchemy", "alembic", "psycopg", "boto3", "botocore"}
UNUSED = {
    "limen.app limen.serving.supervision.supervisor": FACES | LIBRARIES | DATABASE | {"grpc", "onnx"},
    "limen.app.control limen.app.templates limen.serving.control.controlplane": FACES | LIBRARIES | DATABASE | {"grpc"},
    "limen.app.gateway": FACES | LIBRARIES | DATABASE,
    "limen.runtime.placement.process.replica.main": FACES | LIBRARIES | DATABASE | {"grpc", "asyncio", "httptools"},
    "limen.runtime.placement.process.replica.template": FACES | LIBRARIES | DATABASE | {"grpc", "asyncio", "httptools"},
}
"""What no process of a kind imports when it starts: it would pay for it with memory, and each replica with time."""


@pytest.mark.parametrize("modules", UNUSED, ids=lambda modules: modules.split()[-1])
def test_a_process_does_not_import_what_it_does_not_use(modules):
    code = "import sys\nfor name in sys.argv[1:]: __import__(name)\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *modules.split()], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) & UNUSED[modules] == set()
