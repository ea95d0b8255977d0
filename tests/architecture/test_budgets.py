"""Modules and functions stay small enough to be read at once."""

import ast

from tests.architecture.source import Function, functions, modules

MODULE_LINES = 400
FUNCTION_LINES = 60


def length(function: Function) -> int:
    """Count a function's lines without its docstring: explaining is not what the budget limits."""
    body = function.body
    end = function.end_lineno or function.lineno
    lines = end - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= (body[0].end_lineno or body[0].lineno) - body[0].lineno + 1
    return lines


def test_no_module_is_longer_than_the_budget():
    too_long = {
        module.name: lines
        for module in modules()
        if (lines := len(module.path.read_text().splitlines())) > MODULE_LINES
    }
    assert too_long == {}, f"split these modules by concept (budget: {MODULE_LINES} lines)"


def test_no_function_is_longer_than_the_budget():
    too_long = {
        f"{module.name}:{function.lineno} {function.name}": length(function)
        for module in modules()
        for function in functions(module.tree)
        if length(function) > FUNCTION_LINES
    }
    assert too_long == {}, f"name the steps of these functions (budget: {FUNCTION_LINES} lines)"
