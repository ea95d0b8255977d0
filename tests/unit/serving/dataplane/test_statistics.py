"""Which versions the statistics speak about."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from limen.contracts.errors import NotFound
from limen.serving.dataplane.statistics import Statistics
from limen.telemetry.metrics.totals import Totals

SERVED = {"credit": ("1", "2"), "fraud": ("7",), "leaving": ()}


class Plane:
    """Knows versions and nothing else."""

    def models(self) -> tuple[str, ...]:
        return tuple(SERVED)

    def statuses(self, name: str, version: str = "") -> list[Any]:
        found = [SimpleNamespace(model=name, version=v) for v in SERVED.get(name, ()) if version in ("", v)]
        if not found:
            raise NotFound("there is no such model or version")
        return found


def asked(*words: str) -> list[tuple[str, str]]:
    return [(s.name, s.version) for s in Statistics(cast("Any", Plane()), Totals)(*words)]


def test_without_a_name_every_version_is_there_asked_or_not():
    assert asked() == asked("", "") == [("credit", "1"), ("credit", "2"), ("fraud", "7")]


def test_a_name_and_a_version_choose():
    assert asked("credit") == [("credit", "1"), ("credit", "2")]
    assert asked("credit", "2") == [("credit", "2")]


@pytest.mark.parametrize("words", [("nosuch",), ("credit", "9"), ("leaving",)])
def test_what_is_not_served_is_not_found(words: tuple[str, ...]):
    with pytest.raises(NotFound):
        asked(*words)
