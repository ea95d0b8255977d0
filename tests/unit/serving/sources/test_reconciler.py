"""What a server makes of its registry: aims of the fleet, and what it does when something cannot be had."""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from limen.contracts.endpoint import EndpointSpec, EndpointStatus, Route
from limen.contracts.errors import Unavailable
from limen.contracts.serving import Queue, Serving
from limen.management.stores import Stores
from limen.packaging.archive.intact import is_intact
from limen.runtime.versions.lifecycle import State, VersionStatus
from limen.serving.control.conditions import Conditions
from limen.serving.control.status import endpoint_statuses
from limen.serving.fleet.fleet import Fleet
from limen.serving.fleet.launching import Launcher
from limen.serving.fleet.records import Aim, Gateway, Phase, Version
from limen.serving.messages.lines import ProcessPhase, Refused, Reloaded, Report
from limen.serving.sources import planning
from limen.serving.sources import reconciler as module
from limen.serving.sources.plan_memory import PlanMemory
from limen.serving.sources.reconciler import Reconciler
from limen.storage import causes
from limen.storage.faults import unavailable
from limen.testing.fleet import launch
from tests.services.shelf import Shelf, spec

UNREACHABLE = "the registry's database is temporarily unavailable"


class Control:
    """What the reconciler needs of a control plane: a fleet and a clock."""

    def __init__(self) -> None:
        self.fleet = Fleet((), Launcher(launch, "/sockets/"), is_all_or_nothing=False)
        self.woken = 0
        self.fleet.gateways[7] = Gateway("gateway-1", 7, ProcessPhase.RUNNING, is_linked=True, report=Report(0))
        self.mended: list[Version] = []

    async def mend(self, version: Version) -> None:
        self.mended.append(version)

    def follow(self, reconciler: Reconciler, file: Path) -> None:
        self.conditions = Conditions(self.fleet, reconciler, file)

    def endpoint_statuses(self, revisions: Mapping[str, int]) -> dict[str, EndpointStatus]:
        self.conditions.look(self.now())
        return endpoint_statuses(self.fleet, self.conditions, revisions)

    def now(self) -> float:
        return 100.0

    def wake_up(self) -> None:
        self.woken += 1

    async def until_in_use(self, *_: object) -> None:
        return

    def aim(self, name: str = "score") -> Aim:
        return self.fleet.endpoints[name].aim

    def become_what_is_wanted(self, name: str = "score") -> None:
        """Do as if gateways and replicas had followed."""
        endpoint = self.fleet.endpoints[name]
        endpoint.good, endpoint.offer = endpoint.aim, None
        for version in endpoint.versions.values():
            version.phase = Phase.LIVE
        ready = tuple(VersionStatus(name, number, State.READY) for number in endpoint.aim.versions)
        self.fleet.gateways[7].take(Report(1, ready), 0.0)


class World:
    """A registry with published packages, and a server that follows it."""

    def __init__(self, shelf: Shelf, folder: Path) -> None:
        self.shelf = shelf
        self.folder = folder
        self.machine = folder / "machine"
        self.is_away = False
        self.openings = 0
        self.revoked: set[str] = set()
        self.start_anew()

    def start_anew(self) -> None:
        """Be a new control process on the same machine."""
        self.start_anew_with(Control())

    def start_anew_with(self, control: Control) -> None:
        """Follow the registry anew with what is served already."""
        self.control = control
        self.reconciler = Reconciler(
            self._opened,
            self.machine,
            "registry",
            is_inline=False,
            trust_code=False,
            is_trusted=lambda signer: signer not in self.revoked,
        )
        control.follow(self.reconciler, self.folder / "conditions.json")

    async def start(self) -> None:
        await self.reconciler.start(cast("Any", self.control))

    async def look(self) -> None:
        await self.reconciler.look_again(cast("Any", self.control))

    def status(self, name: str = "score") -> EndpointStatus:
        return self.control.endpoint_statuses(self.reconciler.observed())[name]

    def publish(self, **more: object):
        return self.shelf.publish(self.folder, **more)

    def blob(self, number: int) -> Path:
        key = self.shelf.stores.registry.archive_of("score", number).archive
        return self.shelf.home / "blobs" / key[:2] / key

    def _opened(self) -> Stores:
        self.openings += 1
        if self.is_away:
            raise unavailable(UNREACHABLE)
        return self.shelf.stores


@pytest.fixture
def world(shelf: Shelf, tmp_path: Path) -> World:
    return World(shelf, tmp_path)


@pytest.fixture
def away(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return a context in which the database of an open registry cannot be reached."""

    @contextlib.contextmanager
    def gone():
        def refuse() -> None:
            raise unavailable(UNREACHABLE)

        with monkeypatch.context() as patched:
            patched.setattr(world.shelf.stores.database, "reading", refuse)
            patched.setattr(world.shelf.stores.database, "transaction", refuse)
            yield

    return gone


def score(**more: object):
    return spec(name="score", model="score", **more)


async def served(world: World) -> None:
    """One version that is the champion and served."""
    world.shelf.point("champion", world.publish())
    world.shelf.apply(score())
    await world.start()
    world.control.become_what_is_wanted()


async def test_endpoints_are_brought_here_and_wanted(world: World):
    first, second = world.publish(), world.publish()
    world.shelf.point("champion", second)
    serving = Serving(queue=Queue(max_requests=7))
    world.shelf.apply(score(ready=("1",), serving=serving))
    await world.start()
    assert world.control.aim() == Aim((Route(2, 100),), {"champion": "2"}, ("1", "2"))
    endpoint = world.control.fleet.endpoints["score"]
    opened = {number: version.opened for number, version in endpoint.versions.items()}
    assert {n: o.digest for n, o in opened.items()} == {"1": first.digest, "2": second.digest}
    assert {o.serving for o in opened.values()} == {serving}
    assert opened["2"].inputs == {"amount": 1, "age": 2}
    assert opened["2"].root == str(world.machine / "packages" / second.digest)
    assert world.control.woken
    status = world.status()
    assert (status.observed_revision, status.is_ready, status.problem) == (1, False, "")
    world.control.become_what_is_wanted()
    status = world.status()
    assert (status.is_ready, status.routes) == (True, (Route(2, 100),))
    assert [(v.version, v.state) for v in status.versions] == [(1, "LIVE"), (2, "LIVE")]


async def test_what_changes_is_followed_and_what_does_not_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch):
    await served(world)
    world.shelf.apply(spec(name="other", model="score", traffic={"1": 100}))
    aimed: list[str] = []
    aim = world.control.fleet.aim

    def counted(name: str, *arguments: Any, **options: Any) -> None:
        aimed.append(name)
        aim(name, *arguments, **options)

    monkeypatch.setattr(world.control.fleet, "aim", counted)
    await world.look()
    assert aimed == ["other"]
    await world.look()
    assert aimed == ["other"]
    world.shelf.point("champion", world.publish())
    await world.look()
    assert aimed == ["other", "score"]
    assert world.control.aim().routes == (Route(2, 100),)


async def test_an_endpoint_that_is_removed_is_wanted_no_more(world: World):
    await served(world)
    world.shelf.remove("score")
    await world.look()
    assert world.control.fleet.endpoints["score"].is_removed
    assert world.reconciler.observed() == {}


async def test_a_paused_endpoint_consists_of_nothing_and_says_so(world: World):
    await served(world)
    world.shelf.apply(score(is_paused=True))
    await world.look()
    assert world.control.aim() == Aim()
    world.control.fleet.endpoints["score"].good = Aim()
    assert (world.status().is_ready, world.status().problem) == (False, "it is paused")
    world.shelf.apply(score())
    await world.look()
    assert world.control.aim().routes == (Route(1, 100),)


async def test_weights_of_one_version_are_one_share(world: World):
    version = world.publish()
    world.shelf.point("champion", version)
    world.shelf.point("challenger", version)
    world.shelf.apply(score(traffic={"champion": 70, "challenger": 30}))
    await world.start()
    assert world.control.aim() == Aim((Route(1, 100),), {"challenger": "1", "champion": "1"}, ("1",))


async def test_while_the_blob_store_is_away_an_endpoint_keeps_what_it_had_and_it_is_tried_until_it_is_there(
    world: World,
):
    await served(world)
    world.shelf.point("champion", world.publish())
    blob = world.blob(2)
    kept = blob.read_bytes()
    blob.unlink()
    await world.look()
    assert world.control.aim().routes == (Route(1, 100),)
    status = world.status()
    assert (status.is_ready, status.routes, status.is_stale) == (True, (Route(1, 100),), False)
    assert status.problem == "version 2: the blob store has lost the package"
    blob.write_bytes(kept)
    # The registry has not changed: only what could not be had is tried again.
    await asyncio.wait_for(until(world, lambda: world.control.aim().routes == (Route(2, 100),)), 60)
    assert world.status().problem == ""


async def until(world: World, is_so: Callable[[], bool]) -> None:
    """Let the server follow until something is so; it looks as often as it can."""
    following = asyncio.create_task(world.reconciler.follow(cast("Any", world.control), is_watching=False))
    try:
        while not is_so():
            world.reconciler.poke_soon()
            await asyncio.sleep(0.005)
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def test_f18_a_package_that_was_damaged_in_the_store_is_not_served(world: World):
    await served(world)
    world.shelf.point("champion", world.publish())
    blob = world.blob(2)
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    await world.look()
    assert world.control.aim().routes == (Route(1, 100),)
    assert "damaged" in world.status().problem
    blob.write_bytes(whole)
    await world.look()
    assert world.control.aim().routes == (Route(2, 100),)


async def test_f18_a_copy_that_was_damaged_on_this_machine_is_fetched_anew_by_the_next_process(world: World):
    await served(world)
    model = Path(world.control.fleet.endpoints["score"].versions["1"].opened.root) / "model.onnx"
    whole = model.read_bytes()
    model.chmod(0o644)
    model.write_bytes(b"x" + whole[1:])
    world.start_anew()
    await world.start()
    assert model.read_bytes() == whole
    assert world.control.aim().routes == (Route(1, 100),)


async def test_f18_a_copy_that_is_lost_while_it_is_served_is_fetched_again_when_the_store_has_it(world: World):
    await served(world)
    version = world.control.fleet.endpoints["score"].versions["1"]
    assert not await world.reconciler.mend(version)
    shutil.rmtree(version.opened.root)
    blob = world.blob(1)
    away = blob.rename(blob.with_suffix(".away"))
    with pytest.raises(Unavailable, match="the blob store has lost the package"):
        await world.reconciler.mend(version)
    away.rename(blob)
    assert await world.reconciler.mend(version)
    assert is_intact(Path(version.opened.root), version.opened.digest)


async def test_reload_of_a_version_that_is_down_tries_it_at_once_and_tells_how_that_ended(world: World):
    await served(world)
    version = world.control.fleet.endpoints["score"].versions["1"]
    failing = world.control.fleet.launcher.start(version)
    failing.failed, failing.phase = "no memory", ProcessPhase.PAUSED
    assert world.status().problem == "version 1: no memory"
    assert (world.status().is_ready, world.status().versions[0].state) == (False, "DOWN")
    outcome = await world.reconciler.reload(cast("Any", world.control), "score", "")
    assert isinstance(outcome, Reloaded)
    assert outcome.failure == "no memory"
    assert world.control.mended == [version]
    assert list(version.replicas) == ["score-v1-2"]


async def test_a_package_that_another_endpoint_cannot_have_does_not_hold_up_this_one(world: World):
    world.publish()
    world.publish()
    world.blob(1).unlink()
    world.shelf.apply(spec(name="a", model="score", traffic={"1": 100}))
    world.shelf.apply(spec(name="b", model="score", traffic={"2": 100}))
    await world.start()
    assert world.control.aim("a") == Aim()
    assert world.control.aim("b").routes == (Route(2, 100),)
    assert "blob store" in world.status("a").problem
    assert not world.status("a").is_ready


async def test_b97_a_version_whose_signer_was_revoked_is_served_no_more(world: World):
    signer = "f" * 64
    world.shelf.point("champion", world.publish(signer=signer))
    world.shelf.apply(score())
    await world.start()
    world.control.become_what_is_wanted()
    world.revoked.add(signer)
    await world.reconciler.reload(cast("Any", world.control), "score", "")
    assert world.control.aim() == Aim()
    assert world.status().problem == "version 1 is not signed by a key that this server trusts"
    world.start_anew()
    await world.start()
    assert world.control.aim() == Aim()


async def test_code_that_this_server_does_not_trust_is_not_run(world: World, monkeypatch: pytest.MonkeyPatch):
    await served(world)
    world.shelf.point("champion", world.publish())

    def refuse(*_: object, **__: object) -> None:
        raise module.InvalidPackage("the package brings code", reason=module.Reason.UNTRUSTED_CODE)

    monkeypatch.setattr(module, "ensure_trusted", refuse)
    await world.look()
    assert world.control.aim().routes == (Route(1, 100),)
    assert world.status().problem == "version 2: the package brings code"


async def test_f15_while_the_database_is_away_serving_goes_on_and_the_status_says_so(world: World, away):
    await served(world)
    with away():
        await asyncio.wait_for(until(world, lambda: world.reconciler.problem == UNREACHABLE), 60)
        with pytest.raises(Unavailable):
            await world.look()
    assert world.control.aim().routes == (Route(1, 100),)
    status = world.status()
    assert (status.is_ready, status.is_stale, status.routes) == (True, True, (Route(1, 100),))
    world.shelf.point("champion", world.publish())
    await asyncio.wait_for(until(world, lambda: world.control.aim().routes == (Route(2, 100),)), 60)
    assert world.reconciler.problem == ""
    assert not world.status().is_stale


async def test_f17_a_server_starts_from_what_it_knew_and_catches_up(world: World):
    await served(world)
    world.start_anew()
    world.is_away = True
    await world.start()
    assert world.control.aim() == Aim((Route(1, 100),), {"champion": "1"}, ("1",))
    assert (world.reconciler.problem, world.status().is_stale) == (UNREACHABLE, True)
    with pytest.raises(Unavailable):
        world.reconciler.opened()
    world.shelf.point("champion", world.publish())
    world.is_away = False
    await asyncio.wait_for(until(world, lambda: world.control.aim().routes == (Route(2, 100),)), 60)
    assert world.reconciler.problem == ""
    assert not world.status().is_stale


async def test_f17_without_anything_that_it_knew_a_server_says_why_it_cannot_start(world: World):
    world.is_away = True
    with pytest.raises(Unavailable, match="registry"):
        await world.start()


async def test_f17_a_copy_that_is_not_here_waits_for_the_registry(world: World):
    await served(world)
    root = Path(world.control.fleet.endpoints["score"].versions["1"].opened.root)
    (root / "model.onnx").unlink()
    world.start_anew()
    world.is_away = True
    await world.start()
    assert world.control.aim() == Aim()
    assert "not on this machine" in world.status().problem
    world.is_away = False
    await asyncio.wait_for(until(world, lambda: world.control.aim().routes == (Route(1, 100),)), 60)


async def test_whatever_is_wrong_with_the_registry_the_server_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog
):
    await served(world)
    with monkeypatch.context() as patched:
        patched.setattr(module.planning, "plan_of", lambda _: 1 / 0)
        world.shelf.point("champion", world.publish())
        await asyncio.wait_for(until(world, lambda: bool(world.reconciler.problem)), 60)
    assert "ZeroDivisionError" in caplog.text
    assert "ZeroDivision" not in world.reconciler.problem
    await asyncio.wait_for(until(world, lambda: world.control.aim().routes == (Route(2, 100),)), 60)


async def test_an_endpoint_that_names_what_is_gone_keeps_what_it_had(world: World):
    await served(world)
    with world.shelf.stores.database.transaction() as connection:
        world.shelf.stores.registry.remove_alias(connection, "score", "champion", expected=None)
    await world.look()
    assert world.control.aim().routes == (Route(1, 100),)
    assert "no such version or alias" in world.status().problem
    assert world.status().is_ready


async def test_reload_tries_again_and_takes_no_package(world: World):
    await served(world)
    control = cast("Any", world.control)
    done = await world.reconciler.reload(control, "score", "")
    assert isinstance(done, Reloaded)
    assert (done.model, done.version, done.failure) == ("score", "1", "")
    for name, package in (("nobody", ""), ("score", "./package")):
        assert isinstance(await world.reconciler.reload(control, name, package), Refused)
    world.shelf.point("champion", world.publish())
    world.blob(2).unlink()
    await world.look()
    found = await world.reconciler.reload(control, "score", "")
    assert isinstance(found, Reloaded)
    assert "blob store" in found.failure


async def test_an_opened_registry_is_opened_once(world: World):
    await served(world)
    for _ in range(3):
        assert world.reconciler.opened() is world.shelf.stores
    assert world.openings == 1


async def test_what_will_not_change_by_itself_is_tried_once_for_whoever_asks(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    signer = "f" * 64
    world.revoked.add(signer)
    await served(world)
    world.shelf.point("champion", world.publish(signer=signer))
    await world.look()
    await world.look()
    assert "not signed" in world.status().problem
    looks: list[str] = []
    aim = world.reconciler._aim
    monkeypatch.setattr(world.reconciler, "_aim", lambda *found: looks.append("aim") or aim(*found))
    monkeypatch.setattr(world.reconciler, "_read", lambda: looks.append("look"))
    await asyncio.wait_for(until(world, lambda: looks.count("look") >= 3), 60)
    assert "aim" not in looks


async def test_a_reload_that_takes_long_does_not_undo_what_was_wanted_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    await served(world)
    world.shelf.point("champion", world.publish())
    blob = world.blob(2)
    kept = blob.read_bytes()
    blob.unlink()
    await world.look()
    blob.write_bytes(kept)
    entered, gate, fetched = threading.Event(), threading.Event(), world.reconciler._fetched

    def slow(*found: Any) -> Any:
        entered.set()
        assert gate.wait(60)
        return fetched(*found)

    monkeypatch.setattr(world.reconciler, "_fetched", slow)
    reloading = asyncio.create_task(world.reconciler.reload(cast("Any", world.control), "score", ""))
    assert await asyncio.to_thread(entered.wait, 60)
    world.shelf.point("champion", world.shelf.stores.registry.version("score", 1))
    looking = asyncio.create_task(world.look())
    await asyncio.wait([looking], timeout=0.2)
    gate.set()
    await asyncio.gather(reloading, looking)
    assert world.control.aim().routes == (Route(1, 100),)


async def test_another_package_of_the_same_number_goes_first(world: World):
    """Such as that of an endpoint that was removed and made anew for another model."""
    await served(world)
    version = world.control.fleet.endpoints["score"].versions["1"]
    version.opened = msgspec.structs.replace(version.opened, digest="another")
    world.start_anew_with(world.control)
    await world.start()
    assert world.control.aim() == Aim()
    assert "another package" in world.status().problem
    del world.control.fleet.endpoints["score"].versions["1"]
    await asyncio.wait_for(until(world, lambda: world.control.aim().routes == (Route(1, 100),)), 60)
    assert world.status().problem == ""


async def moved_to_a_version_that_cannot_be_had(world: World) -> None:
    """Version 1 has answered; the alias has moved to version 2, whose package is damaged."""
    await served(world)
    await world.look()
    world.shelf.point("champion", world.publish())
    world.blob(2).write_bytes(b"damaged")


async def test_f18_a_server_that_starts_with_a_version_that_cannot_be_had_goes_on_with_what_worked(world: World):
    await moved_to_a_version_that_cannot_be_had(world)
    world.start_anew()
    await world.start()
    assert world.control.aim().versions == ("1",)
    assert world.status().problem == f"version 2: {causes.DAMAGED_PACKAGE}"
    world.control.become_what_is_wanted()
    await world.look()
    assert world.control.aim().versions == ("1",)
    assert world.status().problem == f"version 2: {causes.DAMAGED_PACKAGE}"


async def test_f18_what_could_not_be_had_at_the_start_is_served_once_it_can(world: World):
    await moved_to_a_version_that_cannot_be_had(world)
    world.start_anew()
    await world.start()
    world.control.become_what_is_wanted()
    whole = next((world.folder / "dist-2").glob("*.limen"))
    world.shelf.stores.blobs.put(whole, world.blob(2).name)
    await world.look()
    assert world.control.aim().versions == ("2",)


async def test_a_version_that_fails_to_load_at_the_start_gives_way_to_what_worked_last(world: World):
    await served(world)
    await world.look()
    world.shelf.point("champion", world.publish())
    world.start_anew()
    await world.start()
    endpoint = world.control.fleet.endpoints["score"]
    world.control.fleet._fail(endpoint, endpoint.versions["2"], "it does not load", 100.0)
    await world.reconciler._look(cast("Any", world.control))
    assert world.control.aim().versions == ("1",)
    assert world.status().problem == "version 2: it does not load"


async def test_f17_another_registry_is_not_followed_until_a_person_says_so(world: World):
    await served(world)
    before, shelf = world.control.aim(), world.shelf
    world.shelf = Shelf(world.folder / "other")
    world.reconciler._stores = world.shelf.stores
    with pytest.raises(Unavailable, match="is not the registry that this home follows"):
        await world.look()
    with pytest.raises(Unavailable, match="is not the registry that this home follows"):
        world.reconciler.opened()
    world.start_anew()
    await world.start()
    assert "is not the registry that this home follows" in world.reconciler.problem
    assert world.control.aim() == before
    # A person decides, in another process.
    plan, identity = planning.plan_of(world.shelf.stores), world.shelf.stores.registry.identity()
    PlanMemory(world.machine, "registry").keep(plan, identity.registry, {})
    await world.look()
    assert world.reconciler.problem == ""
    assert world.control.fleet.endpoints["score"].is_removed
    world.shelf.stores.close()
    world.shelf = shelf


async def test_a_package_that_takes_long_to_fetch_holds_up_no_other_endpoint(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("limen.serving.sources.errands.PATIENCE_S", 0.05)
    gate, fetched = threading.Event(), world.reconciler._fetched

    def slow(endpoint: EndpointSpec, *found: Any) -> Any:
        if endpoint.name == "large":
            gate.wait(60)
        return fetched(endpoint, *found)

    monkeypatch.setattr(world.reconciler, "_fetched", slow)
    world.shelf.point("champion", world.publish())
    world.shelf.apply(spec(name="large", model="score"))
    world.shelf.apply(score())
    endpoints = world.control.fleet.endpoints
    try:
        async with asyncio.timeout(60):
            await world.start()
            while endpoints["score"].is_expected:  # noqa: ASYNC110  its errand goes on by itself
                await asyncio.sleep(0.01)
            # Its callers are told that it is not ready, and not that no such model.
            assert endpoints["large"].is_expected
            world.control.fleet.tick(0.0)
            assert {e.name for e in world.control.fleet.snapshot.endpoints} == {"large", "score"}
            # Nor a change of its own: what it was to be before is not wanted any more when it comes.
            world.shelf.apply(score(is_paused=True))
            world.shelf.apply(spec(name="large", model="score", is_paused=True))
            await world.look()
            assert endpoints["score"].is_paused
    finally:
        gate.set()
    async with asyncio.timeout(60):
        while world.reconciler._errands._running:  # noqa: ASYNC110  they end by themselves
            await asyncio.sleep(0.01)
    assert endpoints["large"].is_paused
