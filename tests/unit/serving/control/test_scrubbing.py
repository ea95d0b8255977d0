"""Files that are damaged while their models run from memory are made whole before anybody loads them (F18)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from limen.contracts.errors import Unavailable
from limen.contracts.snapshot import ServedEndpoint, ServedVersion
from limen.packaging.archive.package import open_package
from limen.serving.control.scrubbing import EVERY_S, Scrubbing
from limen.serving.fleet.records import Phase, Version
from limen.serving.link.packages import package_of
from limen.serving.sources import opening
from tests.services.packages import write_score


@pytest.fixture
def version(tmp_path: Path) -> Version:
    package = open_package(write_score(tmp_path / "score"), tmp_path)
    opened = opening.opened_as("score", package, "score/1", is_inline=False)
    return Version("1", opened, 0.0, phase=Phase.LIVE)


def damage(version: Version) -> None:
    model = Path(version.opened.root, "model.onnx")
    model.write_bytes(model.read_bytes()[:-1] + b"\0")


class Mender:
    """Brings packages back, or says why not."""

    def __init__(self) -> None:
        self.mended: list[str] = []
        self.problem = ""

    async def __call__(self, version: Version) -> bool:
        if self.problem:
            raise Unavailable(self.problem)
        self.mended.append(version.number)
        return True


async def test_f18_damaged_files_are_brought_back_and_whole_ones_left_alone(version: Version):
    mender = Mender()
    scrubbing = Scrubbing(mender)
    await scrubbing.scrub([version])
    assert mender.mended == []
    damage(version)
    await scrubbing.scrub([version])
    assert mender.mended == ["1"]


async def test_f18_what_cannot_be_brought_back_is_said_once(version: Version, caplog: pytest.LogCaptureFixture):
    mender = Mender()
    mender.problem = "the blob store has lost the package"
    scrubbing = Scrubbing(mender)
    damage(version)
    for _ in range(3):
        await scrubbing.scrub([version])
    [text] = [r.message for r in caplog.records if "cannot be restored" in r.message]
    assert "score version 1" in text
    assert mender.problem in text


async def test_it_looks_now_and_then_at_what_is_live(version: Version, monkeypatch: pytest.MonkeyPatch):
    looks: list[list[str]] = []

    async def scrub(versions: list[Version]) -> None:
        looks.append([v.number for v in versions])

    scrubbing = Scrubbing(Mender())
    monkeypatch.setattr(scrubbing, "scrub", scrub)
    gone = Version("2", version.opened, 0.0, phase=Phase.FAILED)
    for now in (1.0, 2.0, 1.0 + EVERY_S):
        scrubbing.look([version, gone], now)
        if scrubbing._task is not None:
            await scrubbing._task
    assert looks == [["1"], ["1"]]
    # A process has ended, and another one is about to load the files.
    scrubbing.look_soon()
    scrubbing.look([version], 2.0 + EVERY_S)
    assert scrubbing._task is not None
    await scrubbing._task
    assert len(looks) == 3


@pytest.mark.parametrize(
    "harm",
    [
        damage,
        lambda version: Path(version.opened.root, "model.yaml").write_text("name: other"),
        lambda version: Path(version.opened.root, "model.yaml").unlink(),
    ],
    ids=["model", "manifest", "no manifest"],
)
def test_f18_a_gateway_reads_no_contract_from_damaged_files(version: Version, harm: Callable[[Version], object]):
    opened = version.opened
    served = ServedVersion("1", opened.root, opened.digest, opened.origin)
    endpoint = ServedEndpoint("score", (served,))
    assert package_of(endpoint, served).digest == opened.digest
    harm(version)
    with pytest.raises(Exception, match="damaged"):
        package_of(endpoint, served)
