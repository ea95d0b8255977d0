"""What callers may know of what is served."""

import pytest

from limen.contracts.errors import NotFound
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.directory import Directory
from limen.telemetry.metrics.totals import Totals
from tests.unit.runtime.fakes import FakePlacement, package


@pytest.fixture
async def versions() -> VersionManager:
    """Two versions of one model, one of another, and a model without any."""
    versions = VersionManager(FakePlacement())
    versions.set_aspired("credit", {"1": package("credit"), "2": package("credit", "d2")}, ("1", "2"))
    versions.set_aspired("fraud", {"7": package("fraud", "d7")}, ("7",))
    versions.expect({"credit": ("1", "2"), "fraud": ("7",), "coming": ()})
    await versions.settle()
    return versions


def counted(versions: VersionManager, *words: str) -> list[tuple[str, str]]:
    return [(s.name, s.version) for s in Directory(versions, Totals).statistics(*words)]


async def test_without_a_name_every_version_has_statistics_called_or_not(versions):
    assert counted(versions) == counted(versions, "", "") == [("credit", "1"), ("credit", "2"), ("fraud", "7")]


async def test_a_name_and_a_version_choose_whose_statistics_are_given(versions):
    assert counted(versions, "credit") == [("credit", "1"), ("credit", "2")]
    assert counted(versions, "credit", "2") == [("credit", "2")]


@pytest.mark.parametrize("words", [("nosuch",), ("credit", "9")])
async def test_what_is_not_served_has_no_statistics(versions, words):
    with pytest.raises(NotFound):
        counted(versions, *words)


async def test_without_counting_there_are_no_statistics_and_no_such_extension(versions):
    directory = Directory(versions)
    assert "statistics" not in directory.server_metadata().extensions
    with pytest.raises(NotFound):
        directory.statistics("credit")
