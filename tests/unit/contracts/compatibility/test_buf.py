"""The Protobuf part of the verdict, judged by buf: whatever its breaking rules find, `compare` finds as well."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from limen.contracts.compatibility.compare import compare
from limen.contracts.compatibility.field_numbers import keep_numbers
from limen.contracts.compatibility.findings import Change, Surface
from limen.contracts.contract import Contract
from limen.contracts.errors import Incompatible
from limen.contracts.proto.text import proto_text
from tests.unit.contracts.edits import EDITS, LOAN
from tests.unit.contracts.made_contracts import edited_pairs

BUF = shutil.which("buf", path=str(Path(sys.executable).parent)) or "buf"
RULES = {"version": "v2", "breaking": {"use": ["FILE", "WIRE_JSON"]}}
"""The strictest rules: source code generated from one file, and every form on the wire."""
Pair = tuple[Contract, Contract]


def broken(pairs: Sequence[Pair], folder: Path) -> dict[int, list[str]]:
    """Return by place the pairs of which buf says that the second breaks the first, and the rules it names."""
    old, new = folder / "old", folder / "new"
    for side in (old, new):
        shutil.rmtree(side, ignore_errors=True)
        side.mkdir()
    for i, pair in enumerate(pairs):
        # A package each, so that one run of buf judges them all.
        for side, contract in zip((old, new), as_registered(*pair), strict=True):
            (side / f"case{i}.proto").write_text(proto_text(contract, f"case{i}"))
    command = [BUF, "breaking", new, "--against", old, "--error-format", "json", "--config", json.dumps(RULES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 100), done.stderr
    found: dict[int, list[str]] = {}
    for line in done.stdout.splitlines():
        told = json.loads(line)
        found.setdefault(int(Path(told["path"]).stem.removeprefix("case")), []).append(told["type"])
    return found


def as_registered(old: Contract, new: Contract) -> Pair:
    """Return the contracts with the numbers a registry would give them, or what was asked for where it would refuse."""
    first = keep_numbers(old, {}, {})
    try:
        return first.contract, keep_numbers(new, first.inputs, first.outputs).contract
    except Incompatible:
        return first.contract, new


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What buf says of each edit of the table."""
    found = broken([(LOAN, new) for _, new, *_ in EDITS], tmp_path_factory.mktemp("buf"))
    return {EDITS[i][0]: rules for i, rules in found.items()}


def test_whatever_buf_calls_breaking_in_the_table_the_table_calls_breaking(table):
    names = {name for name, _, verdict, *_ in EDITS if verdict is Change.BREAKING}
    assert len(table) > 15
    assert table.keys() <= names


def test_what_breaks_protobuf_alone_buf_finds_as_well(table):
    alone = {name for name, *_, surfaces in EDITS if surfaces == (Surface.PROTOBUF,)}
    assert len(alone) > 3
    assert alone <= table.keys()


@settings(max_examples=12, phases=[Phase.generate])
@given(st.lists(edited_pairs(), min_size=5, max_size=40))
def test_whatever_buf_calls_breaking_is_breaking(tmp_path_factory, pairs):
    for i, rules in broken(pairs, tmp_path_factory.mktemp("buf")).items():
        found = compare(*pairs[i])
        assert any(Surface.PROTOBUF in f.surfaces for f in found.breaking), (pairs[i], rules)
