"""Serves the endpoints of a registry: the source of `limen serve` without packages.

Looks at the registry's revision, and when it has grown works out what every endpoint should consist of, brings the packages to this
machine and gives the fleet its aims. What it worked out last is kept in the home folder: when the registry cannot be reached, a server
starts from that and says so. Called by `serving.control.controlplane`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import InvalidPackage, LimenError, Reason, Unavailable
from limen.contracts.identity import LOCAL
from limen.contracts.snapshot import ServedEndpoint, ServedVersion
from limen.management.catalogue import Catalogue
from limen.management.stores import Stores
from limen.packaging.archive.intact import is_intact
from limen.runtime.placement.trust import ensure_trusted
from limen.serving.fleet.records import Aim, Endpoint, Opened, Version
from limen.serving.messages.lines import Failure, Refused, Reloaded
from limen.serving.sources import opening, planning
from limen.serving.sources.errands import Errands
from limen.serving.sources.package_cache import PackageCache
from limen.serving.sources.plan_memory import PlanMemory
from limen.serving.sources.planning import Plan, PlannedEndpoint, PlannedVersion
from limen.serving.sources.source import ControlPort

LOG = logging.getLogger("limen.control")
POLL_S = 1.0
"""How often the registry's revision is looked at; what changes through this server is seen at once."""
REOPEN_S = 2.0
"""How often a registry that cannot be reached is tried again."""


class Reconciler:
    """Keeps a control plane's endpoints at what a registry says."""

    is_required = False
    """Whether a server without any one of its endpoints is not started."""
    is_numbered_here = False
    """Whether versions have the next number each time they are loaded; those of a registry come with theirs."""
    mends_in_place = True

    def __init__(
        self,
        open_stores: Callable[[], Stores],
        home: Path,
        registry: str,
        *,
        is_inline: bool,
        trust_code: bool,
        is_trusted: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Prepare to follow; `start` opens the registry.

        Args:
            open_stores: opens the registry; called again after it could not be reached.
            home: where packages are unpacked, and the last plan is kept.
            registry: tells this registry from others, whose plan would be a wrong one.
            is_inline: whether models live in the gateways when an endpoint says nothing.
            trust_code: whether packages may run code they bring.
            is_trusted: whether a version signed with the key of this fingerprint may be served; empty for none.
        """
        self.problem = ""
        self._open_stores = open_stores
        self._stores: Stores | None = None
        self._opening = threading.Lock()
        self._home = home
        self._memory = PlanMemory(home, registry)
        self._is_inline = is_inline
        self._trust_code = trust_code
        self._is_trusted = is_trusted
        self._plan: Plan | None = None
        self.revision: int | None = None
        known = self._memory.kept()
        self._identity = known.identity if known is not None else ""
        self._good = dict(known.good) if known is not None else {}
        """What each endpoint last answered with, also before this process."""
        self._gone_back: set[str] = set()
        """Endpoints that have gone back to that, because what is wanted does not work."""
        self._problems: dict[str, str] = {}
        self._causes = planning.Causes()
        self.cause_of = self._causes.of
        self._again: set[str] = set()
        """Endpoints whose packages could not be had just now."""
        self._poked = asyncio.Event()
        self._turn = asyncio.Lock()
        self._errands = Errands()

    async def start(self, control: ControlPort) -> None:
        """Want what the registry says, or what it said last when it cannot be reached.

        Raises:
            LimenError: it cannot be reached, and nothing is known of it.
        """
        try:
            await self._look(control)
        except Unavailable as exc:
            self.problem = exc.message
            if not await self._follow_last(control):
                raise
            LOG.warning("%s; serving its last known state", exc.message)

    def resume(self, served: ServedEndpoint, version: ServedVersion) -> Opened:
        """Return a version that an earlier control process has verified."""
        return opening.reopen(served, version)

    async def follow(self, control: ControlPort, *, is_watching: bool) -> None:
        """Look at the registry again and again, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S if not self.problem else REOPEN_S):
                    await self._poked.wait()
            self._poked.clear()
            self._again.update(control.fleet.found_room())
            try:
                await self._look(control)
            except LimenError as exc:
                if exc.message != self.problem:
                    LOG.warning("%s; serving continues", exc.message)
                self.problem = exc.message
                if self._plan is None:
                    await self._follow_last(control)
            except Exception:
                # Whatever is wrong with it, the endpoints that are served go on.
                LOG.exception("the registry cannot be read")
                self.problem = "the registry cannot be read; see the log"

    def poke_soon(self) -> None:
        """Look soon: something was changed through this process. Called from the event loop."""
        self._poked.set()

    async def look_again(self, control: ControlPort) -> None:
        """Look now, and try again whatever could not be had.

        Raises:
            LimenError: the registry cannot be reached.
        """
        self._again |= set(self._problems) | {e.name for e in control.fleet.endpoints.values() if e.problem}
        await self._look(control)

    def opened(self) -> Stores:
        """Return the open registry. Blocking, and safe in any thread.

        Raises:
            Unavailable: it cannot be reached, or may be the wrong one.
        """
        self._memory.ensure_sure()
        return self._open()

    def _open(self) -> Stores:
        with self._opening:
            if self._stores is None:
                self._stores = self._open_stores()
            return self._stores

    async def reload(self, control: ControlPort, name: str, package: str) -> Reloaded | Refused:
        """Try again whatever of an endpoint could not be had; a package is published and not loaded."""
        if package:
            return Refused(Failure("this server serves a registry", hint="Add a version with `limen publish PACKAGE`."))
        begun = control.now()
        planned = next((e for e in self._plan.endpoints if e.spec.name == name), None) if self._plan else None
        if planned is None or not planned.aim.routes:
            return Refused(Failure(f"{name} has no versions to load"))
        await self._errands.run(partial(self._aim, control), [planned], to_the_end=True)
        endpoint = control.fleet.endpoints[name]
        number = str(planned.aim.routes[0].version)
        for broken in [v for v in endpoint.versions.values() if v.down]:
            await control.mend(broken)
            control.fleet.launcher.restart(broken)
        if number in endpoint.versions:
            await control.until_in_use(name, endpoint.versions[number])
        version = endpoint.versions.get(number)
        found = version.reason or version.down if version is not None else endpoint.problem
        return Reloaded(name, number, "", round(control.now() - begun, 3), self._problems.get(name, "") or found)

    async def load(self, control: ControlPort, name: str) -> Reloaded | Refused:
        """Pause an endpoint no longer, and try again whatever of it could not be had.

        Raises:
            LimenError: as `Catalogue.apply`.
        """
        await self._set_paused(control, name, is_paused=False)
        return await self.reload(control, name, "")

    async def unload(self, control: ControlPort, name: str) -> None:
        """Pause an endpoint: its spec says so from now on, for every server of the registry.

        Raises:
            LimenError: as `Catalogue.apply`.
        """
        await self._set_paused(control, name, is_paused=True)

    async def _set_paused(self, control: ControlPort, name: str, *, is_paused: bool) -> None:
        def change() -> None:
            stores = self.opened()
            with stores.database.transaction() as connection:
                Catalogue(stores).set_paused(connection, name, is_paused=is_paused, by=LOCAL.id)

        await asyncio.to_thread(change)
        await self._look(control)

    async def mend(self, version: Version) -> bool:
        """Fetch the package of a version again if it is not whole here; raises as `Source.mend`."""
        name, opened = version.opened.endpoint, version.opened
        plan = self._plan.endpoints if self._plan is not None else ()
        planned = next((p for p in plan if p.spec.name == name), None)
        wanted = planned.versions.get(version.number) if planned is not None else None
        if planned is None or wanted is None or wanted.digest != opened.digest:
            return False
        if await asyncio.to_thread(is_intact, Path(opened.root), opened.digest, afresh=True):
            return False
        await asyncio.to_thread(self._fetched, planned.spec, version.number, wanted)
        return True

    def problem_of(self, name: str) -> str:
        """Return why an endpoint cannot be what it should be."""
        return self._problems.get(name, "")

    # -- the registry ------------------------------------------------------------------------------------------------------

    async def _look(self, control: ControlPort) -> None:
        """Follow the registry if it has changed."""
        async with self._turn:
            plan = await asyncio.to_thread(self._read)
            if plan is not None:
                await self._follow_plan(control, plan)
            again = [p for p in self._plan.endpoints if p.spec.name in self._again] if self._plan is not None else []
            await self._errands.run(partial(self._aim, control), again)
            is_news = await self._note_what_works(control)
            if (plan is not None or is_news) and self._plan is not None:
                await asyncio.to_thread(self._memory.keep, self._plan, self._identity, self._good)

    def _read(self) -> Plan | None:
        """Return what the registry wants; None when that has not changed.

        Raises:
            Unavailable: STORAGE; it cannot be reached, or is not the registry that was followed so far.
        """
        stores = self._open()
        found = stores.registry.identity()
        self._memory.ensure_followed(found)
        self._identity = found.registry
        is_same = self._plan is not None and found.revision == self._plan.revision
        plan = None if is_same and not self.problem else planning.plan_of(stores)
        if plan is not None:
            self._causes.learn(stores, plan, self._plan)
        self.problem = ""
        return plan

    async def _follow_last(self, control: ControlPort) -> bool:
        """Follow what the registry said last; return whether anything is known of that."""
        if (last := await asyncio.to_thread(self._memory.kept)) is not None:
            await self._follow_plan(control, last.plan)
        return last is not None

    async def _note_what_works(self, control: ControlPort) -> bool:
        """Note what endpoints answer with, and go back to that where nothing does; return whether there is anything new to remember."""
        before, plan = dict(self._good), self._plan.endpoints if self._plan is not None else ()
        for planned in plan:
            name = planned.spec.name
            endpoint = control.fleet.endpoints.get(name)
            if endpoint is None or not planned.versions:
                continue
            if endpoint.is_settled and endpoint.good == planned.aim and name not in self._problems:
                self._good[name] = planned
            elif endpoint.problem and endpoint.is_empty and not endpoint.lacks_room and name not in self._gone_back:
                self._problems[name] = endpoint.problem
                await self._go_back(control, planned)
        self._good = {p.spec.name: self._good[p.spec.name] for p in plan if p.spec.name in self._good}
        return self._good != before

    async def _follow_plan(self, control: ControlPort, plan: Plan) -> None:
        """Give the fleet the aims of a plan; what has not changed is left alone."""
        known = {e.spec.name: e for e in self._plan.endpoints} if self._plan else {}
        for name in set(control.fleet.endpoints) - {e.spec.name for e in plan.endpoints}:
            control.fleet.remove(name, control.now())
            self._problems.pop(name, None)
            self._again.discard(name)
        self._plan, self.revision = plan, plan.revision
        for planned in plan.endpoints:
            control.fleet.expect(planned.spec.name)
        control.wake_up()
        changed = [planned for planned in plan.endpoints if known.get(planned.spec.name) != planned]
        await self._errands.run(partial(self._aim, control), changed)

    async def _go_back(self, control: ControlPort, planned: PlannedEndpoint) -> None:
        """Want an endpoint that has nothing to be what it last answered with, or else nothing. Its problem stays: that is not what is wanted."""
        name = planned.spec.name
        self._gone_back.add(name)
        aim, opened, spec = Aim(), dict[str, Opened](), planned.spec
        good = self._good.get(name)
        if good is not None and good.versions != planned.versions:
            with contextlib.suppress(LimenError):
                endpoint = control.fleet.endpoints.get(name)
                opened = {n: await self._opened(endpoint, good, n, version) for n, version in good.versions.items()}
                aim, spec = good.aim, good.spec
                LOG.warning("the endpoint %s keeps version %s, the last one that worked", name, ", ".join(opened))
        control.fleet.aim(name, aim, opened, control.now(), serving=spec.serving, slo=spec.slo)
        control.wake_up()

    async def _aim(self, control: ControlPort, planned: PlannedEndpoint) -> None:
        """Bring the packages of an endpoint here and want it to consist of them; when that fails it stays as it is."""
        name = planned.spec.name
        endpoint = control.fleet.endpoints.get(name)
        try:
            if planned.problem:
                raise InvalidPackage(planned.problem)
            opened = {
                number: await self._opened(endpoint, planned, number, version)
                for number, version in planned.versions.items()
            }
        except LimenError as exc:
            if self._plan is None or planned not in self._plan.endpoints:
                return
            if self._problems.get(name) != exc.message:
                LOG.warning("the endpoint %s cannot be brought to its spec: %s", name, exc.message)
            self._problems[name] = exc.message
            self._again.discard(name)
            if exc.retryable:
                self._again.add(name)
            if exc.reason is Reason.SIGNATURE:
                # What nobody vouches for any more goes.
                control.fleet.aim(name, Aim(), {}, control.now())
            elif endpoint is None or endpoint.is_expected:
                # What was expected does not come.
                await self._go_back(control, planned)
            return
        if self._plan is None or planned not in self._plan.endpoints:
            return  # something else is, since then
        if endpoint is not None and endpoint.holds_other(opened):
            # Gateways have one package of a number: the one that is there goes first.
            self._problems[name] = "another package with the same number is being unloaded"
            self._again.add(name)
            control.fleet.aim(name, Aim(), {}, control.now())
            control.wake_up()
            return
        self._problems.pop(name, None)
        self._again.discard(name)
        self._gone_back.discard(name)
        spec = planned.spec
        control.fleet.aim(
            name,
            planned.aim,
            opened,
            control.now(),
            serving=spec.serving,
            slo=spec.slo,
            is_paused=spec.is_paused,
        )
        control.wake_up()

    async def _opened(
        self, endpoint: Endpoint | None, planned: PlannedEndpoint, number: str, version: PlannedVersion
    ) -> Opened:
        spec = planned.spec
        if not self._is_trusted(version.signer):
            text = f"version {number} is not signed by a key that this server trusts"
            raise InvalidPackage(text, reason=Reason.SIGNATURE)
        is_inline = spec.placement == "inline" if spec.placement else self._is_inline
        known = endpoint.versions.get(number) if endpoint is not None else None
        if known is not None and not known.is_gone and known.opened.digest == version.digest:
            # Verified in this process's life, and nobody writes to it.
            opened = known.opened
        else:
            opened = await asyncio.to_thread(self._fetched, spec, number, version)
        opening.ensure_variables_reach(opened.environment, is_inline=is_inline)
        serving = spec.serving or opened.serving
        return msgspec.structs.replace(
            opened, is_inline=is_inline, serving=serving, inputs=version.inputs, outputs=version.outputs
        )

    def _fetched(self, spec: EndpointSpec, number: str, version: PlannedVersion) -> Opened:
        cache = PackageCache(self._home, self._stores.blobs if self._stores is not None else None)
        origin = f"{spec.model}/{number}"
        try:
            package = cache.open(version.digest, version.archive, origin)
            ensure_trusted(package.manifest, trust_code=self._trust_code)
        except LimenError as exc:
            kind = Unavailable if exc.retryable else InvalidPackage
            raise kind(f"version {number}: {exc.message}", reason=exc.reason) from exc
        return opening.opened_as(spec.name, package, origin, is_inline=False)

    # -- status ------------------------------------------------------------------------------------------------------------

    def observed(self) -> dict[str, int]:
        """Return the observed revision of every endpoint that the registry had at the last look: a spec is observed once it is worked towards."""
        plan = self._plan.endpoints if self._plan is not None else ()
        return {p.spec.name: p.revision - self._errands.is_underway(p.spec.name) for p in plan}
