"""The table of metrics, the page about it, and the cells it decides."""

import re
from pathlib import Path

import pytest
import yaml

from limen.telemetry.metrics.file import LABEL_BYTES
from limen.telemetry.metrics.instrument import LABELS, Instrument, Kind, Scope
from limen.telemetry.metrics.instruments import CELLS, TABLE, offset

PAGE = Path(__file__).parents[4] / "docs/reference/metrics.md"
UNITS = ("seconds", "rows", "bytes")
STORED = [i for i in TABLE if i.scope is not Scope.OBSERVED]


def test_names_are_unique_and_say_package_noun_and_unit():
    names = [i.name for i in TABLE]
    assert len(set(names)) == len(names)
    for instrument in TABLE:
        assert re.fullmatch(
            r"limen_(gateway|runtime|telemetry|process|endpoint|server|registry|build)(_[a-z]+)+", instrument.name
        )
        assert instrument.name.endswith("_total") == (instrument.kind is Kind.COUNTER), instrument.name
        if instrument.kind is Kind.HISTOGRAM:
            assert instrument.name.endswith(UNITS)


@pytest.mark.parametrize("instrument", STORED, ids=lambda i: i.name)
def test_what_is_counted_here_has_cells_of_its_own(instrument: Instrument):
    assert len(instrument.own_labels) == (1 if instrument.values else 0)
    assert len(set(instrument.values)) == len(instrument.values)
    mine = range(offset(instrument), offset(instrument) + instrument.cells)
    assert mine.stop <= CELLS
    for other in STORED:
        if other.scope is instrument.scope and other is not instrument:
            theirs = range(offset(other), offset(other) + other.cells)
            assert not set(mine) & set(theirs)


def test_the_longest_labels_fit():
    """Names have up to 63 characters, versions 18."""
    assert len("\n".join((Scope.GATEWAY, "n" * 63, "9" * 18, "protocol"))) <= LABEL_BYTES


def test_the_page_and_the_table_agree():
    row = re.compile(r"^\| `(limen_\w+)` \| (\w+) \| (.*?) \| (.+) \|$", re.MULTILINE)
    shown = [(name, kind, *_words(labels), text) for name, kind, labels, text in row.findall(_page())]
    assert shown == [(i.name, i.kind.value, *i.own_labels, i.help) for i in TABLE]


def test_the_page_names_the_labels_of_each_scope():
    for labels in LABELS.values():
        for label in labels:
            assert f"`{label}`" in _page()


def _page() -> str:
    return PAGE.read_text().replace("| | ", "|  | ")


def _words(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_the_alerts_of_the_operators_page_ask_for_metrics_that_exist():
    page = (PAGE.parents[1] / "how-to/operate.md").read_text()
    [rules] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(groups:.*?)```", page, re.DOTALL)]
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert len(found) > 4
    known = {instrument.name: {*instrument.own_labels, *LABELS[instrument.scope]} for instrument in TABLE}
    for expression in found:
        for name, labels in re.findall(r"(limen_\w+)(?:\{(.*?)\})?", expression):
            assert name in known
            assert set(re.findall(r"(\w+)!?=", labels)) <= known[name]
