"""A generated client is one file of typed Python that says what the contract says, whatever the contract says."""

import ast
import subprocess
import sys
import types
from pathlib import Path

import msgspec
import pytest

from limen.contracts.clients.code import client_code
from limen.contracts.contract import Contract, Field
from tests.unit.contracts.served import CREDIT, DIGITS, EVERYTHING, HALVES, TELLER

EVIL = 'a"""\nimport os\n\\"""\r\u2028{}%s\'\'\' \x00'
ODD = Contract(
    name="odd",
    title=EVIL,
    description=EVIL,
    inputs=(
        Field(name="class", type="string", enum=(EVIL, "b"), description=EVIL, unit=EVIL, default="b"),
        Field(name="Clear", type="bytes", shape=(2,)),
        Field(name="loose", type="float32", shape=(-1, -1)),
    ),
    outputs=(Field(name="y", type="float32", nullable=True, description=EVIL + '"'),),
)
ALL = (CREDIT, DIGITS, EVERYTHING, HALVES, TELLER, ODD)


def module(contract: Contract) -> dict:
    """Run a generated client and return its names."""
    made = types.ModuleType("client_of_the_test")
    sys.modules[made.__name__] = made  # dataclasses look their module up
    try:
        exec(compile(client_code(contract), made.__name__, "exec"), vars(made))
    finally:
        del sys.modules[made.__name__]
    return vars(made)


@pytest.mark.parametrize("contract", ALL, ids=lambda c: c.name)
def test_a_client_is_the_same_every_time_and_runs_without_any_library(contract):
    assert client_code(contract) == client_code(contract)
    names = module(contract)
    assert names["MODEL"] == contract.name
    assert set(names["Instance"].__annotations__) == {f.name for f in contract.inputs}
    assert set(names["Prediction"].__annotations__) == {f.name for f in contract.outputs}


def test_clients_satisfy_the_strict_type_checker_and_the_linter(tmp_path: Path):
    for contract in ALL:
        (tmp_path / f"client_of_{contract.name.replace('-', '_').replace('.', '_')}.py").write_text(
            client_code(contract)
        )
    for command in (["mypy", "--strict", "--no-incremental", "."], ["ruff", "check", "--isolated", "."]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_type_checker_finds_what_the_contract_does_not_allow(tmp_path: Path):
    (tmp_path / "client.py").write_text(client_code(CREDIT))
    (tmp_path / "caller.py").write_text(
        "from client import Instance\n"
        "ok: Instance = {'loan_amount': 1.0, 'term_months': 36, 'grade': 'A'}\n"
        "a: Instance = {'loan_amount': 1.0, 'term_months': 37, 'grade': 'A'}\n"
        "b: Instance = {'loan_amount': 1.0, 'grade': 'A'}\n"
        "c: Instance = {'loan_amount': 1.0, 'term_months': 36, 'grade': 'A', 'purpose': 3}\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "caller.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert [line.split(":")[1] for line in done.stdout.splitlines() if "error" in line and ":" in line] == [
        "3",
        "4",
        "5",
    ]


def test_b100_nothing_in_a_text_becomes_code():
    tree = ast.parse(client_code(ODD))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"base64", "json", "math"}


def test_fields_carry_their_unit_and_limits():
    text = client_code(CREDIT)
    assert '"""Amount asked for.\n    Unit: USD. At least 500, at most 40000. Required.\n    """' in text
    assert "term_months: Literal[36, 60]" in text
    assert "employment_years: NotRequired[float | None]" in text


def test_an_endpoint_is_called_by_its_own_name():
    text = client_code(msgspec.structs.replace(CREDIT, major=2), "lending.v2")
    assert "MODEL = 'lending.v2'\nSERVICE = 'limen.models.lending.v2.Lending'" in text


def test_no_secret_is_in_the_text():
    assert "hush" not in client_code(EVERYTHING)
    assert "hidden" not in client_code(EVERYTHING)


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (2, 0)])
def test_nested_lists_travel_flat_and_come_back(shape):
    names = module(ODD)
    value = [[float(i * shape[1] + j) for j in range(shape[1])] for i in range(shape[0])]
    message = names["_kind"]("PredictRequest")().instances.add()
    field = names["_INPUTS"]["loose"]
    field.write(message, value)
    assert list(message.loose.shape) == ([0, 0] if not shape[0] else list(shape))
    assert field.read(message) == value
