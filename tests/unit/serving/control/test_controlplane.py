"""What waits for a control plane, without processes: decisions come from a fleet that a test steers."""

import asyncio
import errno
import shutil
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from limen import __version__
from limen.contracts.conditions import Condition, ConditionReason, ConditionType, find
from limen.contracts.endpoint import Route
from limen.serving.control import controlplane, room
from limen.serving.control.config import ControlConfig
from limen.serving.control.controlplane import ControlPlane
from limen.serving.control.metrics_text import metrics_text
from limen.serving.fleet.history import Cause
from limen.serving.fleet.records import Aim, Phase, Version
from limen.serving.messages.lines import ProcessPhase, Report
from limen.serving.supervision import run_folder
from limen.testing.fleet import FakeFleet
from tests.unit.serving.fleet.test_fleet import package

AIM = Aim((Route(1, 100),), {}, ("1",))


class Source:
    """Endpoints that a test makes by hand."""

    is_required = False
    mends_in_place = False
    problem = ""
    revision = 7

    def problem_of(self, name: str) -> str:
        return ""

    def cause_of(self, name: str) -> Cause:
        return Cause("a test", "it says so")

    async def start(self, control: ControlPlane) -> None:
        control.fleet.aim("m", AIM, {"1": package()}, control.now())

    async def follow(self, control: ControlPlane, *, is_watching: bool) -> None:
        return

    async def mend(self, version: Version) -> bool:
        return False


@pytest.fixture
async def control(tmp_path: Path) -> ControlPlane:
    run_folder.metrics(tmp_path).mkdir()
    world = FakeFleet(is_all_or_nothing=False)
    config = ControlConfig(run=str(tmp_path), watch=False, http="", grpc="", metrics="", server_pid=1, started_at=0.0)
    control = ControlPlane(config, world.fleet, cast("Any", Source()), lambda _: None, clock=lambda: world.now)
    await control._follow()
    control.tick(control.now())
    return control


async def waiting(control: ControlPlane) -> asyncio.Task[None]:
    """Return a task that waits for the version that is being loaded."""
    task = asyncio.create_task(control.until_in_use("m", control.fleet.endpoints["m"].versions["1"]))
    await asyncio.sleep(0)
    return task


async def test_several_wait_for_one_version(control: ControlPlane):
    tasks = [await waiting(control), await waiting(control)]
    control.tick(control.now())
    assert not any(task.done() for task in tasks)
    version = control.fleet.endpoints["m"].versions["1"]
    version.phase = Phase.LIVE
    for replica in version.replicas.values():
        replica.phase = ProcessPhase.RUNNING
    control.tick(control.now())
    await asyncio.wait_for(asyncio.gather(*tasks), 60)


async def test_whoever_waits_is_told_when_the_endpoint_is_paused(control: ControlPlane):
    task = await waiting(control)
    control.fleet.aim("m", Aim(), {}, control.now(), is_paused=True)
    control.tick(control.now())
    assert control.fleet.endpoints["m"].versions["1"].phase is Phase.UNLOADED
    await asyncio.wait_for(task, 60)


async def test_whoever_waits_is_told_when_the_endpoint_is_removed(control: ControlPlane):
    task = await waiting(control)
    control.fleet.remove("m", control.now())
    control.tick(control.now())
    assert control.fleet.endpoints == {}
    await asyncio.wait_for(task, 60)


async def test_f08_control_goes_on_with_a_full_disk_says_so_and_keeps_what_it_could_not_write(
    control: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    told: list[bytes] = []
    control.push = told.append

    def degraded() -> Condition | None:
        return find(control.status().conditions, ConditionType.DEGRADED)

    def write(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(controlplane, "write_whole", write)
        control.fleet.remove("m", control.now())
        for second in range(3):
            control.tick(control.now() + 2 * second)
        assert len(told) == 1
        assert degraded().reason is ConditionReason.STORAGE_FULL
        assert "is full" in degraded().message
        assert sum("nothing new is written" in line for line in caplog.messages) == 1
        assert b'reason="StorageFull"' in await metrics_text(control)
    control.tick(control.now() + 8)
    assert run_folder.read_snapshot(tmp_path) == control.fleet.snapshot
    control.tick(control.now() + 10)
    assert degraded().reason is not ConditionReason.STORAGE_FULL
    assert "has space again" in caplog.text


async def test_a_disk_that_is_nearly_full_is_said_before_something_is_lost(
    control: ControlPlane, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room, "free_bytes", lambda _: 4096)
    control.tick(control.now() + 2)
    assert find(control.status().conditions, ConditionType.DEGRADED).reason is ConditionReason.STORAGE_FULL
    assert b"limen_server_disk_free_bytes" in await metrics_text(control)


async def test_a_folder_that_somebody_has_removed_is_made_again_with_the_snapshot(
    control: ControlPlane, tmp_path: Path
):
    folder, own = run_folder.create(tmp_path / "home", "h:1", "h:2", "h:3")
    control.config = msgspec.structs.replace(control.config, run=str(folder), server=own)
    shutil.rmtree(folder)
    control.tick(control.now())
    later = control.now() + 1.5
    control.tick(later)
    assert run_folder.find(tmp_path / "home") == [msgspec.structs.replace(own, folder=run_folder._identity(folder))]
    assert run_folder.read_snapshot(folder) == control.fleet.snapshot
    run_folder.remove(folder, own.sockets)


async def test_the_metrics_say_which_release_and_revision_this_is_and_how_old_each_report_is(control: ControlPlane):
    control.fleet.link("g1", 1001)
    control.fleet.take_report(1001, Report(1), control.now() - 4.0)
    text = (await metrics_text(control)).decode()
    assert "limen_registry_revision 7.0" in text
    assert 'limen_gateway_report_age_seconds{process="g1"} 4.0' in text
    assert f'limen_build_info{{version="{__version__}"' in text or f'version="{__version__}"' in text
