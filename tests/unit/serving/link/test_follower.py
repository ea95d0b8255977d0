"""A gateway's end of the control socket, with a control process that is a few lines of the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import pytest

from limen.contracts.contract import Slo
from limen.contracts.errors import InvalidPackage, Unavailable
from limen.contracts.serving import Queue, Serving
from limen.contracts.snapshot import LogLevels, ServedEndpoint, ServedVersion, Snapshot
from limen.runtime.versions.lifecycle import State
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.plane import DataPlane
from limen.serving.link import follower
from limen.serving.link.follower import GatewayLink
from limen.serving.messages.lines import Apply, FromClient, Hello, Poison, Report, Wake, line
from limen.serving.supervision import run_folder
from limen.storage.files import write_whole
from tests.unit.runtime.fakes import FakePlacement, package

WAIT_S = 30
MODEL = "double"


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_so():  # noqa: ASYNC110  what is waited for happens in tasks of the link
            await asyncio.sleep(0.001)


def snapshot(revision: int, *versions: ServedVersion, **changes) -> Snapshot:
    return Snapshot(revision, (ServedEndpoint(MODEL, versions),) if versions else (), **changes)


def version(number: str, *, failure: str = "", replicas: tuple[str, ...] = ("/r",)) -> ServedVersion:
    return ServedVersion(number, "/nowhere", "d1", replicas=() if failure else replicas, failure=failure)


class Replicas:
    """What a placement was told."""

    def __init__(self) -> None:
        self.paths: dict[tuple[str, str], tuple[str, ...]] = {}
        self.down: dict[tuple[str, str], str] = {}
        self.quarantined: list[str] = []

    def set_replicas(self, model: str, version: str, paths: Sequence[str], down: str = "") -> None:
        self.paths[model, version] = tuple(paths)
        self.down[model, version] = down

    def set_inline(self, model: str, version: str) -> None:
        self.paths.pop((model, version), None)

    def set_quarantined(self, fingerprints: Iterable[str]) -> None:
        self.quarantined = list(fingerprints)


class Control:
    """The other end: takes what a gateway says and says what the test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[FromClient] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.greeting: Apply | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self.writers:
            writer.close()
        self.writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        if self.greeting is not None:
            writer.write(line(self.greeting))
        while said := await reader.readline():
            self.heard.append(msgspec.json.decode(said, type=FromClient))
        writer.close()

    def say(self, wanted: Snapshot, *, is_first: bool = False) -> None:
        for writer in self.writers:
            writer.write(line(Apply(wanted, is_first)))

    @property
    def last(self) -> Report:
        return next(m for m in reversed(self.heard) if isinstance(m, Report))

    def states(self) -> dict[str, State]:
        return {s.version: s.state for s in self.last.versions}


class World:
    """A link between a real version manager and a control process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control = Control(folder / "control")
        self.placement = FakePlacement()
        self.replicas = Replicas()
        self.versions = VersionManager(self.placement, on_change=lambda: self.link.changed())  # noqa: PLW0108  made below
        plane = DataPlane(self.versions)
        self.followed: list[Snapshot] = []
        self.link = GatewayLink(
            "gateway-1", str(folder / "control"), str(folder), plane, self.replicas, self.followed.append
        )


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(follower, "REPORT_S", 0.02)
    monkeypatch.setattr(follower, "RECONNECT_S", 0.01)
    monkeypatch.setattr(follower, "package_of", lambda _, served: package(digest=served.digest))


@contextlib.asynccontextmanager
async def running(folder: Path, *, has_control: bool = True) -> AsyncIterator[World]:
    world = World(folder)
    if has_control:
        await world.control.open()
    task = asyncio.create_task(world.link.run())
    if has_control:
        await until(lambda: bool(world.control.writers))
    try:
        yield world
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await world.control.close()
        await world.versions.close()


pytestmark = pytest.mark.usefixtures("quick")


async def test_it_says_who_it_is_and_follows_what_it_is_told(tmp_path):
    async with running(tmp_path) as world:
        await until(lambda: bool(world.control.heard))
        assert isinstance(world.control.heard[0], Hello)
        world.control.say(snapshot(1, version("1"), quarantined=("abc",)), is_first=True)
        assert await asyncio.wait_for(world.link.until_usable(), WAIT_S) == []
        await until(lambda: world.control.last.revision == 1 and world.control.states() == {"1": State.READY})
        assert world.replicas.paths == {(MODEL, "1"): ("/r",)}
        assert world.replicas.quarantined == ["abc"]


async def test_replicas_come_and_go_without_loading_anything_again(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: bool(world.placement.started))
        sink = world.placement.started["1"]
        world.control.say(snapshot(2, version("1", replicas=("/r", "/s"))))
        await until(lambda: world.replicas.paths[MODEL, "1"] == ("/r", "/s"))
        assert world.placement.started == {"1": sink}


async def test_a_version_is_swapped_while_the_one_before_is_held(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        held = world.versions.acquire(MODEL)
        world.control.say(snapshot(2, version("2")))
        await until(lambda: world.versions.versions(MODEL) == ("2",))
        await until(lambda: world.control.states() == {"1": State.DRAINING, "2": State.READY})
        # What is draining does not hold up what comes next.
        world.control.say(snapshot(3, version("3")))
        await until(lambda: world.versions.versions(MODEL) == ("3",))
        held.release()
        await until(lambda: world.control.states() == {"3": State.READY})


async def test_a_paused_endpoint_is_unloaded_is_not_waited_for_and_comes_back(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        gone = ServedEndpoint(MODEL, (version("1", failure="unloaded"),), is_paused=True)
        world.control.say(Snapshot(2, (gone,)))
        await until(lambda: world.control.last.revision == 2 and not world.control.states())
        assert world.placement.started["1"].closed == 1
        assert await asyncio.wait_for(world.link.until_usable(), WAIT_S) == []
        plane = DataPlane(world.versions)
        for revision in (3, 4):
            # Whatever else comes, what is paused does not count.
            world.control.say(Snapshot(revision, (gone,), quarantined=(str(revision),)))
            await until(lambda: world.control.last.revision == revision)  # noqa: B023  awaited in this very turn
            assert (plane.directory.is_ready(), plane.directory.is_model_ready(MODEL), plane.directory.models()) == (
                True,
                False,
                (MODEL,),
            )
        with pytest.raises(Unavailable, match="is unloaded"):
            world.versions.acquire(MODEL)
        world.control.say(snapshot(5, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        assert plane.directory.is_ready()


async def test_it_tells_what_is_to_be_logged(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1"), log=LogLevels(info=True)))
        await until(lambda: [s.log for s in world.followed[-1:]] == [LogLevels(info=True)])


async def test_a_version_that_fails_here_is_reported_and_then_shown_as_control_decides(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        world.placement.failure = InvalidPackage("broken")
        world.control.say(snapshot(2, version("2")))
        await until(lambda: world.control.states() == {"1": State.READY, "2": State.FAILED})
        assert next(s.reason for s in world.control.last.versions if s.version == "2") == "broken"
        world.control.say(snapshot(3, version("1"), version("2", failure="broken")))
        await until(lambda: world.control.last.revision == 3)
        assert world.control.states() == {"1": State.READY, "2": State.FAILED}
        assert world.versions.versions(MODEL) == ("1",)


async def test_a_version_that_failed_elsewhere_is_let_go_here_and_shown(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("2")))
        await until(lambda: world.versions.versions(MODEL) == ("2",))
        world.control.say(snapshot(2, version("1"), version("2", failure="wrong over there")))
        await until(lambda: world.control.states() == {"1": State.READY, "2": State.FAILED})
        assert world.versions.versions(MODEL) == ("1",)
        assert world.placement.started["2"].closed == 1


async def test_a_version_that_should_work_and_failed_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(follower, "RETRY_S", 0.05)
    async with running(tmp_path) as world:
        world.placement.failure = InvalidPackage("no replica answers")
        world.control.say(snapshot(1, version("1")))
        await until(lambda: bool(world.control.heard) and world.control.states() == {"1": State.FAILED})
        world.placement.failure = None
        await until(lambda: world.versions.versions(MODEL) == ("1",))


async def test_a_version_that_is_down_is_kept_and_refused_at_once_until_a_replica_can_be_started(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        sink = world.placement.started["1"]
        gone = msgspec.structs.replace(version("1"), down="no memory")
        world.control.say(snapshot(2, gone))
        await until(lambda: world.replicas.down.get((MODEL, "1")) == "no memory")
        sink.down = "no memory"
        sink.on_turn()
        await until(lambda: world.control.states() == {"1": State.FAILED})
        assert next(s.reason for s in world.control.last.versions) == "no memory"
        plane = DataPlane(world.versions)
        plane.directory.require_all(False)
        assert (plane.directory.is_ready(), plane.directory.is_model_ready(MODEL)) == (False, False)
        world.control.say(snapshot(3, version("1")))
        await until(lambda: world.replicas.down.get((MODEL, "1")) == "")
        sink.down = ""
        sink.on_turn()
        await until(lambda: world.control.states() == {"1": State.READY})
        assert (plane.directory.is_ready(), plane.directory.is_model_ready(MODEL)) == (True, True)
        # Nothing was loaded again.
        assert (world.placement.started, sink.closed) == ({"1": sink}, 0)


async def test_a_gateway_that_starts_while_a_version_is_down_loads_it_once_a_replica_can_be_started(tmp_path):
    async with running(tmp_path) as world:
        world.placement.failure = Unavailable("no replica of the model answers")
        world.control.say(snapshot(1, msgspec.structs.replace(version("1"), down="no memory")))
        assert await asyncio.wait_for(world.link.until_usable(), WAIT_S) == []
        assert world.versions.versions(MODEL) == ()
        world.placement.failure = None
        world.control.say(snapshot(2, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))


async def test_a_model_that_is_not_served_any_more_goes(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        world.control.say(snapshot(2))
        await until(lambda: world.versions.models() == ())


async def test_f13_a_gateway_that_joins_opens_when_every_version_that_answers_elsewhere_is_ready_here(tmp_path):
    async with running(tmp_path) as world:
        world.placement.gate.clear()
        broken = version("3", failure="broken")
        down = msgspec.structs.replace(version("4"), down="no memory")
        world.control.say(snapshot(1, version("1"), version("2"), broken, down))
        opening = asyncio.create_task(world.link.until_usable())
        await until(world.placement.entered.is_set)
        await asyncio.sleep(0.1)
        assert not opening.done()
        world.placement.gate.set()
        assert await asyncio.wait_for(opening, WAIT_S) == []
        assert {"1", "2"} <= set(world.versions.versions(MODEL))


async def test_while_a_server_starts_its_gateways_open_with_the_first_model_that_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(follower, "package_of", lambda endpoint, served: package(endpoint.name, digest=served.digest))
    async with running(tmp_path) as world:
        both = (ServedEndpoint(MODEL, (version("1"),)), ServedEndpoint("slow", (version("1", replicas=("/s",)),)))
        world.placement.slow["slow"] = asyncio.Event()
        for writer in world.control.writers:
            writer.write(line(Apply(Snapshot(1, both), is_started=False)))
        assert await asyncio.wait_for(world.link.until_usable(), WAIT_S) == []
        assert (world.versions.versions(MODEL), world.versions.versions("slow")) == (("1",), ())
        world.placement.slow["slow"].set()


async def test_a_gateway_that_joins_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(follower, "OPEN_S", 0.2)
    async with running(tmp_path) as world:
        world.placement.gate.clear()
        world.control.say(snapshot(1, version("1")))
        assert await asyncio.wait_for(world.link.until_usable(), WAIT_S) == []
        world.placement.gate.set()


async def test_the_very_start_fails_with_the_reasons_and_a_later_one_opens_without_the_broken_model(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(follower, "FAILED_OPEN_S", 0.05)
    async with running(tmp_path) as world:
        world.placement.failure = InvalidPackage("broken")
        world.control.say(snapshot(1, version("1")), is_first=True)
        assert await asyncio.wait_for(world.link.until_usable(), WAIT_S) == ["double: broken"]
        world.control.say(snapshot(2, version("1")), is_first=False)
        await until(lambda: world.control.last.revision == 2)
        assert await asyncio.wait_for(world.link.until_usable(), WAIT_S) == []


async def test_a_gateway_that_loses_control_keeps_what_it_has_and_comes_back(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(5, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        await world.control.close()
        await until(lambda: world.link._writer is None)
        assert world.versions.versions(MODEL) == ("1",)
        world.control.heard.clear()
        # An older snapshot is none.
        world.control.greeting = Apply(snapshot(4))
        await world.control.open()
        await until(lambda: bool(world.control.heard) and world.control.last.revision == 5)
        assert world.versions.versions(MODEL) == ("1",)


@pytest.mark.parametrize("is_silent", [True, False])
async def test_f17_a_gateway_without_control_starts_from_the_snapshot_on_disk(tmp_path, is_silent):
    write_whole(run_folder.snapshot(tmp_path), msgspec.json.encode(snapshot(7, version("3"))))
    async with running(tmp_path, has_control=is_silent) as world:
        assert await asyncio.wait_for(world.link.until_usable(), WAIT_S) == []
        assert world.versions.versions(MODEL) == ("3",)


async def test_a_broken_snapshot_on_disk_is_none(tmp_path):
    run_folder.snapshot(tmp_path).write_bytes(b'{"revision":')
    async with running(tmp_path, has_control=False) as world:
        await asyncio.sleep(0.05)
        assert world.link.snapshot is None


async def test_f26_a_request_for_a_version_without_replicas_wakes_it_once(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        world.control.say(snapshot(2, version("1", replicas=())))
        await until(lambda: world.control.last.revision == 2)
        assert not [m for m in world.control.heard if isinstance(m, Wake)]
        with world.versions.acquire(MODEL), world.versions.acquire(MODEL):
            await until(lambda: Wake(MODEL, "1") in world.control.heard)
            await asyncio.sleep(0.1)
        assert world.control.heard.count(Wake(MODEL, "1")) == 1


async def test_a_poisonous_request_is_told(tmp_path):
    async with running(tmp_path) as world:
        await until(lambda: bool(world.control.heard))
        world.link.poison("abc")
        await until(lambda: Poison("abc") in world.control.heard)


async def test_limits_of_an_endpoint_that_change_count_at_once_and_load_nothing(tmp_path, quick, monkeypatch):
    def made(endpoint: ServedEndpoint, served: ServedVersion):
        found = package(digest=served.digest)
        slo = endpoint.slo or found.manifest.contract.slo
        contract = msgspec.structs.replace(found.manifest.contract, slo=slo)
        manifest = msgspec.structs.replace(
            found.manifest, contract=contract, serving=endpoint.serving or found.manifest.serving
        )
        return msgspec.structs.replace(found, manifest=manifest)

    monkeypatch.setattr(follower, "package_of", made)
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        handle = world.versions.acquire(MODEL)
        handle.lane = "as it was"
        serving, slo = Serving(queue=Queue(max_requests=3)), Slo(deadline_ms=250)
        changed = ServedEndpoint(MODEL, (version("1"),), serving=serving, slo=slo)
        world.control.say(Snapshot(2, (changed,)))
        await until(lambda: handle.deadline_s == 0.25)
        assert (handle.lane, handle.package.manifest.serving.queue.max_requests) == (None, 3)
        assert world.versions.acquire(MODEL) is handle
        handle.leases = 0


async def test_a_version_that_is_wanted_again_while_it_drains_is_loaded_once_it_is_gone(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        held = world.versions.acquire(MODEL)
        world.control.say(snapshot(2, version("2")))
        await until(
            lambda: bool(world.control.heard) and world.control.states() == {"1": State.DRAINING, "2": State.READY}
        )
        world.control.say(snapshot(3, version("1")))
        await until(lambda: world.control.last.revision == 3)
        held.release()
        await until(lambda: world.versions.versions(MODEL) == ("1",))


async def test_one_of_several_versions_that_failed_here_is_tried_again_beside_those_that_answer(tmp_path, monkeypatch):
    """Such as in a gateway that starts while a replica of one version is being restarted."""
    monkeypatch.setattr(follower, "RETRY_S", 0.05)
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        world.placement.failure = InvalidPackage("no replica answers")
        world.control.say(snapshot(2, version("1"), version("2")))
        await until(lambda: world.control.states() == {"1": State.READY, "2": State.FAILED})
        world.placement.failure = None
        await until(lambda: world.versions.versions(MODEL) == ("1", "2"))


async def test_another_package_under_the_same_number_takes_its_place(tmp_path):
    """An endpoint that was removed and made anew for another model, of which this gateway has heard only now."""
    async with running(tmp_path) as world:
        world.control.say(snapshot(1, version("1")))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        other = msgspec.structs.replace(version("1"), digest="d2")
        world.control.say(snapshot(2, other))
        await until(lambda: [s.digest for s in world.versions.statuses(MODEL) if s.state is State.READY] == ["d2"])


async def test_an_endpoint_without_versions_that_is_removed_is_known_no_more(tmp_path):
    async with running(tmp_path) as world:
        world.control.say(Snapshot(1, (ServedEndpoint(MODEL),)))
        await until(lambda: world.versions.models() == (MODEL,))
        world.control.say(Snapshot(2))
        await until(lambda: bool(world.control.heard) and world.control.last.revision == 2)
        assert world.versions.models() == ()
        assert DataPlane(world.versions).directory.is_ready()


async def test_a_package_that_cannot_be_read_holds_up_no_other_endpoint(tmp_path, monkeypatch):
    broken = True

    def made(endpoint: ServedEndpoint, served: ServedVersion):
        if endpoint.name == "broken" and broken:
            raise InvalidPackage("model.yaml is not there")
        return package(endpoint.name, digest=served.digest)

    monkeypatch.setattr(follower, "package_of", made)
    async with running(tmp_path) as world:
        both = (ServedEndpoint("broken", (version("1"),)), ServedEndpoint(MODEL, (version("1"),)))
        world.control.say(Snapshot(1, both))
        await until(lambda: world.versions.versions(MODEL) == ("1",))
        # It is known, and not ready.
        assert set(world.versions.models()) == {"broken", MODEL}
        for number in ("", "1"):
            with pytest.raises(Unavailable):
                world.versions.acquire("broken", number)
        broken = False
        await until(lambda: world.versions.versions("broken") == ("1",))
