"""The documentation names only what exists, and leaves out nothing it promises to list."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
from typer.core import TyperOption

from limen.cli import app
from limen.contracts.conditions import ConditionReason
from limen.contracts.errors import ErrorCode, Reason
from limen.packaging.manifest.decoder import MANIFEST, decode_manifest
from limen.traffic.endpoints import ENDPOINT_NAME, parse_spec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A fenced block: its language, the rest of its first line, and its text."""
COMMANDS: dict[str, Any] = vars(typer.main.get_command(app))["commands"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Return the blocks of a page in one language: the rest of the first line, and the text."""
    return [(head, text) for found, head, text in BLOCK.findall(page.read_text()) if found == language]


def options(command: str) -> dict[str, TyperOption]:
    """Return the options of a `limen` command by each of their spellings."""
    inner = getattr(COMMANDS[command], "commands", {}).values()  # of a group, such as `limen config`
    declared = [p for c in (COMMANDS[command], *inner) for p in c.params if isinstance(p, TyperOption)]
    return {spelling: option for option in declared for spelling in (*option.opts, *option.secondary_opts)}


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the commands of a page's console blocks and of its inline code, as words."""
    text = page.read_text()
    for _, block in blocks(page, "console"):
        yield from (
            shlex.split(c.replace("\\\n", " "), comments=True)
            for c in re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.MULTILINE)
        )
    for code in re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)):
        yield code.split()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_limen_command_on_a_page_exists_with_its_options(page: Path) -> None:
    for words in commands(page):
        if Path(words[0]).name != "limen" or len(words) < 2 or words[1].startswith("--"):
            continue
        assert words[1] in COMMANDS, words
        assert {w.partition("=")[0] for w in words[2:] if w.startswith("-") and w != "-"} <= {
            *options(words[1]),
            "--help",
        }, words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_that_a_page_names_alone_exists(page: Path) -> None:
    """Options of the benchmark are its own page's business."""
    known = {"--help", "--version", *(spelling for command in COMMANDS for spelling in options(command))}
    if page.name != "benchmark.md":
        assert {words[0] for words in commands(page) if words[0].startswith("--") and words[0] != "--traced"} <= known


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_on_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page):
        if words[0] == "make" and len(words) > 1:
            assert words[1] in targets or "=" in words[1], words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_on_a_page_compiles(page: Path) -> None:
    for _, text in blocks(page, "python"):
        ast.parse(text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_whole_model_yaml_or_endpoint_yaml_on_a_page_is_one(page: Path) -> None:
    """The page that shows mistakes calls its package `wrong`; a list that is cut short is no whole manifest."""
    for head, text in blocks(page, "yaml"):
        if ENDPOINT_NAME in head:
            parse_spec(text)
        elif text.startswith("name: ") and not text.startswith("name: wrong\n"):
            decode_manifest(text)


def test_the_page_about_serving_lists_every_option_with_its_default() -> None:
    rows = re.findall(r"^\| `(--[a-z-]+)` \| ([^|]+) \|", (DOCS / "how-to" / "serve.md").read_text(), re.MULTILINE)
    shown = {option: default.strip().split(",")[0].strip("`") for option, default in rows}
    real = {
        spelling: o.show_default if isinstance(o.show_default, str) else str(o.default)
        for spelling, o in options("serve").items()
    }
    assert shown == {
        s: {"False": "off", "": "none", "None": "none"}.get(default, default) for s, default in real.items()
    }


def test_every_code_that_callers_see_is_on_the_page_of_errors() -> None:
    codes = (DOCS / "reference" / "errors.md").read_text().partition("## Codes")[2]
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", codes, re.MULTILINE))
    source = "".join(p.read_text() for p in (ROOT / "src/limen/gateway").rglob("*.py"))
    refused = set(re.findall(r"Refused\(\s*\d{3}, \"([A-Z_]+)\"", source))
    assert len(refused) > 8
    assert listed == set(Reason) | refused


def test_every_reason_of_a_condition_is_on_the_page_of_conditions() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w.*?) \|$", (DOCS / "reference/conditions.md").read_text(), re.MULTILINE))
    assert {reason.value for reason in ConditionReason} <= rows.keys()


def test_the_table_of_errors_for_callers_agrees_with_the_gateways() -> None:
    from limen.gateway.engine.errors import STATUS as HTTP
    from limen.gateway.grpc.status import STATUS as GRPC

    text = (DOCS / "how-to" / "call.md").read_text()
    shown = re.findall(r"^\| (\d{3}) \| `([A-Z_]+)` \|", text, re.MULTILINE)
    assert len(shown) == 7
    # A message over the limit never becomes a `LimenError`: each transport refuses it in its own words.
    assert set(shown) - {("413", "RESOURCE_EXHAUSTED")} <= {(str(HTTP[c]), GRPC[c].name) for c in ErrorCode}


def test_every_decision_is_in_the_list_of_decisions_and_in_the_navigation() -> None:
    listed = re.findall(r"\((\d{4}-[a-z-]+\.md)\)", (DOCS / "adr" / "index.md").read_text())
    navigation = re.findall(r"adr/(\d{4}-[a-z-]+\.md)", (ROOT / "mkdocs.yml").read_text())
    assert listed == navigation == sorted(p.name for p in (DOCS / "adr").glob("0*.md"))


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """Return the program that makes the tables of the reference."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "scripts" / "reference_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_generated_table_is_on_one_page_of_the_reference(tables: ModuleType) -> None:
    pages = (DOCS / "reference").glob("*.md")
    used = [name for page in pages for name, _ in tables.MARKED.findall(page.read_text())]
    assert sorted(used) == sorted(tables.TABLES)


def test_the_tables_on_the_pages_are_what_the_code_says(tables: ModuleType) -> None:
    stale = [p.name for p in (DOCS / "reference").glob("*.md") if tables.filled(p.read_text()) != p.read_text()]
    assert stale == [], "`make tables` writes them anew"


def test_the_generated_tables_have_a_row_for_every_key_of_the_manifest(tables: ModuleType) -> None:
    text = tables.manifest_table("manifest")
    assert re.findall(r"^\| `(\w+)`", text, re.MULTILINE) == list(MANIFEST.names)
    assert "| `name` | 1 to 63 of a-z" in text
    assert "| `max_rows` | whole number from 1 to 2,147,483,647 | `1024` |" in tables.manifest_table("batching")


LAYERS = (DOCS / "architecture" / "layers.md").read_text()
NOW, _, COMING = LAYERS.partition("## Rooms for what comes next")
COMING = COMING.partition("\n## ")[0]


def rooms_in(text: str) -> set[str]:
    """Return the packages that the tables of a page name in code, by their paths below `limen`."""
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    return set(re.findall(r"`([a-z_/]+)`", rows)) - {"limen"}


def rooms_that_exist() -> set[str]:
    """Return every package below `limen` by its path, without generated code and the revisions of the database."""
    root = ROOT / "src" / "limen"
    found = {str(init.parent.relative_to(root)) for init in root.rglob("__init__.py")} - {"."}
    return {room for room in found if "_generated" not in room and not room.startswith("storage/migrations/")}


def test_the_page_about_layers_names_every_room_and_no_other() -> None:
    assert rooms_in(NOW) - {"_version"} == rooms_that_exist()


def test_a_room_that_exists_is_no_longer_listed_as_coming() -> None:
    """A floor that exists may be named there, as the place of something that does not exist yet."""
    nested = {room for room in rooms_in(COMING) if "/" in room}
    assert nested & rooms_that_exist() <= {"gateway/engine"}


def test_the_drawing_of_the_house_names_every_floor() -> None:
    drawn = set(re.findall(r">(\w+)<", (DOCS / "assets" / "house.svg").read_text()))
    assert {room for room in rooms_that_exist() if "/" not in room} <= drawn
