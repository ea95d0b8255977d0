"""Child processes are started in one way."""

import ast

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
