"""The supervisor: keeps the desired set of processes running, including the control process that defines it.

Used by `limen.app`. It knows nothing of models and packages; the control process tells it the set and gets every change. When
control dies or hangs it is started again and handed the last set and what became of it; nothing else is touched. When the supervisor dies,
however it dies, the standard input of every child closes, and they end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from limen.serving.messages.lines import Changed, ProcessPhase, ProcessSpec, Resume, Tell, ToSupervisor, Want, line
from limen.serving.supervision.child import Keeper
from limen.serving.supervision.facts import OomKills
from limen.serving.supervision.pulse import LOOK_S, Pulse
from limen.serving.supervision.templates import Templates

LOG = logging.getLogger("limen.supervisor")
STOP_ORDER = ("gateway", "replica", "template", "control")
"""Who accepts work ends before who does it, and who decides ends last."""
ROLL_S = 120.0
"""How long a replacement may take to be ready before a rolling restart is given up."""


class ControlFailedError(Exception):
    """Control ended before it had anything to tell."""


class Supervisor:
    """Runs control and what it wants."""

    def __init__(self, control: ProcessSpec, on_told: Callable[[bytes], None]) -> None:
        """Prepare to run; `run` starts control first.

        Args:
            control: the process that says what is wanted.
            on_told: takes what control has to tell whoever started the server.
        """
        self._on_told = on_told
        self._specs: dict[str, ProcessSpec] = {}
        self._keepers: dict[str, Keeper] = {}
        self._leaving: set[Keeper] = set()
        """Dismissed and not gone yet."""
        self._tasks: dict[Keeper, asyncio.Task[None]] = {}
        self._has_told = False
        self._has_failed = False
        self._stopping = asyncio.Event()
        self._roll_asked = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._oom = OomKills()
        self._templates = Templates(self._keepers.get)
        self._control = Keeper(control, self._changed, greet=self._resume, on_line=self._take, oom=self._oom)

    async def run(self) -> None:
        """Keep everything running until `stop`; return when all of it is gone.

        Raises:
            ControlFailedError: control ended before it had anything to tell, so that another one would do no better.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._begin(self._control)
                tasks = [group.create_task(work()) for work in (self._roll_when_asked, self._watch)]
                await self._stopping.wait()
                for task in tasks:
                    task.cancel()
                for kind in STOP_ORDER:
                    await self._end(k for k in self._all() if k.spec.kind == kind)
                await self._end(self._all())
        finally:
            self.kill()
        if self._has_failed:
            raise ControlFailedError

    def stop(self) -> None:
        """End everything in order; `run` returns when it is gone."""
        self._stopping.set()

    def kill(self) -> None:
        """End everything on the spot."""
        for keeper in self._all():
            keeper.kill()

    def roll(self) -> None:
        """Replace the gateways one after another; each replacement is ready before its predecessor is asked to end."""
        self._roll_asked.set()

    def want(self, specs: Sequence[ProcessSpec]) -> None:
        """Make the set of processes this one: what is new starts, what is missing ends, what is there goes on."""
        if self._stopping.is_set():
            return
        self._specs = {spec.name: spec for spec in specs}
        for name in self._keepers.keys() - self._specs.keys():
            self._dismiss(self._keepers.pop(name))
        for name, spec in self._specs.items():
            kept = self._keepers.get(name)
            if kept is not None:
                kept.spec = spec
            else:
                self._keepers[name] = Keeper(spec, self._changed, oom=self._oom, templates=self._templates)
                self._begin(self._keepers[name])

    def pids(self) -> set[int]:
        """Return every process of its own; it may have ended a moment ago."""
        return {keeper.state.pid for keeper in self._all()}

    def keepers(self) -> tuple[Keeper, ...]:
        """Return everything that is kept, without control and without what is leaving."""
        return tuple(self._keepers.values())

    def _all(self) -> list[Keeper]:
        return [*self._keepers.values(), *self._leaving, self._control]

    def _begin(self, keeper: Keeper) -> None:
        if self._group is not None:
            self._tasks[keeper] = self._group.create_task(keeper.run(), name=keeper.spec.name)

    def _dismiss(self, keeper: Keeper) -> None:
        self._leaving.add(keeper)
        keeper.dismiss()

    async def _end(self, keepers: Iterable[Keeper]) -> None:
        ending = [self._tasks[keeper] for keeper in keepers if keeper in self._tasks]
        for keeper in [k for k, task in self._tasks.items() if task in ending]:
            keeper.dismiss()
        if ending:
            # Bounded by the keepers, which kill what does not stop.
            await asyncio.wait(ending)

    def _changed(self, keeper: Keeper) -> None:
        if keeper.spec.kind == "template":
            self._templates.changed()
        if keeper.state.phase is ProcessPhase.ENDED:
            self._leaving.discard(keeper)
            self._tasks.pop(keeper, None)
        if keeper is self._control and keeper.state.phase is ProcessPhase.PAUSED and not self._has_told:
            self._has_failed = True
            self.stop()
        # Control hears of its own death, too: it shows how often it was restarted.
        self._control.write(line(Changed(keeper.state)))

    def _resume(self) -> bytes:
        return line(Resume(tuple(self._specs.values()), tuple(keeper.state for keeper in self._all())))

    def _take(self, said: bytes) -> None:
        """Follow what control says; a line that makes no sense is a fault of its own and changes nothing."""
        try:
            message = msgspec.json.decode(said, type=ToSupervisor)
        except msgspec.DecodeError as exc:
            LOG.warning("control said something that is not understood: %s", exc)
            return
        if isinstance(message, Want):
            self.want(message.specs)
        elif isinstance(message, Tell):
            self._has_told = True
            self._on_told(bytes(message.payload))

    async def _watch(self) -> None:
        """Have a process started again that hangs; until control is, gateways go on with what they have."""
        pulse = Pulse()
        while True:
            await asyncio.sleep(LOOK_S)
            self._oom.has_struck(time.monotonic())
            for keeper in pulse.look(self._all()):
                LOG.error("%s does not go on and is killed", keeper.spec.name)
                keeper.restart_hung()

    async def _roll_when_asked(self) -> None:
        while True:
            await self._roll_asked.wait()
            self._roll_asked.clear()
            for name in [k.spec.name for k in self.keepers() if k.spec.kind == "gateway"]:
                if not await self._replace(name):
                    break

    async def _replace(self, name: str) -> bool:
        """Start a second process of one name and end the first once that is ready; return whether it became so."""
        spec = self._specs.get(name)
        if spec is None:
            return True
        # Until it is ready it has one attempt; then it is kept like its predecessor.
        replacement = Keeper(msgspec.structs.replace(spec, is_restarted=False), self._changed, oom=self._oom)
        # Beside the wanted set until it is ready, so that stopping finds it.
        self._leaving.add(replacement)
        self._begin(replacement)
        word = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROLL_S):
                word = await replacement.until_heard()
        if word is None or word.ready is None:
            LOG.warning("the replacement of %s did not become ready; the one before goes on", name)
            replacement.dismiss()
            return False
        old = self._keepers.get(name)
        if old is None:  # not wanted any more
            replacement.dismiss()
            return True
        self._leaving.discard(replacement)
        self._keepers[name] = replacement
        replacement.spec = spec
        self._dismiss(old)
        if old in self._tasks:
            await asyncio.wait((self._tasks[old],))
        return True
