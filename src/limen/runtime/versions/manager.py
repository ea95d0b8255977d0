"""The versions in memory: which are loaded, which may be used, and which are still in use.

`acquire` hands out a lease, not an object to keep: a version is unloaded only after the last lease is released or its drain
deadline has passed. The reconciler says what is wanted with `set_aspired` and calls `step` until nothing is left to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from limen.contracts.catalogue import Verdict
from limen.contracts.errors import LimenError, NotFound, Unavailable
from limen.contracts.names import parse_model_name, parse_version
from limen.packaging.archive.package import Package
from limen.runtime.batching.batcher import Batcher
from limen.runtime.outage import SOON_S
from limen.runtime.placement import Placement
from limen.runtime.predictor import Sink
from limen.runtime.versions.absence import absence
from limen.runtime.versions.entry import Entry
from limen.runtime.versions.handle import VersionHandle
from limen.runtime.versions.independence import LOAD_S, measure
from limen.runtime.versions.lifecycle import State, VersionLoad, VersionStatus
from limen.runtime.versions.policy import Verb, next_action
from limen.runtime.versions.warmup import WARM_UP_TIMEOUT_S, warm_up
from limen.telemetry.logs import ABOUT_A_PACKAGE
from limen.telemetry.metrics.series import RuntimeSeries

LOG = logging.getLogger("limen.runtime")
DRAIN_TIMEOUT_S = 30.0
"""How long an unloading version waits for the requests that hold it; longer than any sane deadline on this path."""


class VersionManager:
    """Loads, hands out, drains and unloads versions. One per process; used from one event loop."""

    def __init__(
        self,
        placement: Placement,
        *,
        drain_timeout_s: float = DRAIN_TIMEOUT_S,
        on_change: Callable[[], None] | None = None,
        counts: Callable[[str, str], RuntimeSeries] | None = None,
    ) -> None:
        """Start with nothing loaded.

        Args:
            placement: starts a predictor for a package.
            drain_timeout_s: seconds an unloading version waits for its leases.
            on_change: called after every change of what may be acquired.
            counts: gives what counts the runs and requests of a model's version.
        """
        self._placement = placement
        self._drain_timeout_s = drain_timeout_s
        self._tell_change = on_change or (lambda: None)
        self.changes = 0
        """Grows with every change of what callers can see: versions, defaults, aliases, what an endpoint says."""
        self._counts = counts
        self._aspired: dict[str, dict[str, Package]] = {}
        self._routed: dict[str, tuple[str, ...]] = {}
        self._aliases: dict[str, dict[str, str]] = {}
        self._entries: dict[str, dict[str, Entry]] = {}
        self._ready: dict[str, dict[str, VersionHandle]] = {}
        self._called: dict[str, VersionHandle] = {}
        """By `NAME@ALIAS`."""
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._drains: set[asyncio.Task[None]] = set()
        self._expected: dict[str, frozenset[str]] = {}
        """What is served here even while nothing of it is loaded: names, and the versions of each."""
        self.paused: frozenset[str] = frozenset()
        """Those of which nothing is loaded because somebody wants it so."""
        self.overdue_drains = 0
        """Versions unloaded while still held because the drain deadline passed."""

    def acquire(self, model: str, version: str = "") -> VersionHandle:
        """Return a ready version with one more lease; the caller must `release` it.

        Args:
            model: the model's name; `NAME@ALIAS` stands for the version that the alias points at.
            version: its number; when empty, the first ready one of those that were wanted for that, or the newest ready one.

        Raises:
            NotFound: no such model or version.
            InvalidArgument: the name or the version is not one.
            Unavailable: it exists and is not ready.
        """
        try:
            handle = self._ready[model][version]
        except KeyError:
            called = self._called.get(model)
            if called is None or version not in ("", called.version):
                raise self._absent(model, version) from None
            handle = called
        handle.leases += 1
        return handle

    def models(self) -> tuple[str, ...]:
        """Return the names of all known models, ready or not, in the order they were wanted."""
        return tuple(self._entries)

    def is_known(self, called: str) -> bool:
        """Return whether something is called so: a name, or `NAME@ALIAS` that is ready."""
        return called in self._entries or called in self._called

    def meant(self, called: str) -> tuple[str, str]:
        """Return the name and, for `NAME@ALIAS`, the number that a caller means; the number is empty for a name alone.

        Raises:
            NotFound: the model has no such alias.
        """
        name, mark, alias = called.partition("@")
        number = self._aliases.get(name, {}).get(alias, "") if mark else ""
        if mark and not number:
            raise NotFound("this model has no such alias")
        return name, number

    def versions(self, model: str) -> tuple[str, ...]:
        """Return the ready versions of a model, oldest first; also those that are down for the moment."""
        return tuple(sorted((v for v in self._ready.get(model, ()) if v), key=int))

    def has_answer(self, model: str) -> bool:
        """Whether a version of a model answers."""
        return any(not handle.predictor.down for handle in self._ready.get(model, {}).values())

    def default(self, model: str) -> str:
        """Return the version that answers when none is named; empty when none does."""
        handle = self._ready.get(model, {}).get("")
        return handle.version if handle is not None else ""

    def statuses(self, model: str) -> list[VersionStatus]:
        """Return what is known of every version of a model."""
        return [e.status(model) for e in self._entries.get(model, {}).values()]

    def set_aspired(self, model: str, versions: Mapping[str, Package], routed: tuple[str, ...] = ()) -> None:
        """Say which versions of a model should be ready; `step` makes it so.

        Args:
            model: the model's name.
            versions: number to package.
            routed: which of them answers requests that name no version, best first; the newest when empty. A version that
                answered before goes on until one of these is ready.
        """
        self._aspired[model] = dict(versions)
        self._routed[model] = routed
        self._entries.setdefault(model, {})
        self._forget(model)
        self._set_default(model)

    def expect(self, models: Mapping[str, Iterable[str]]) -> None:
        """Say what is served here: names, and the versions of each. Callers of those that are not loaded are told to come back."""
        before, self._expected = self._expected, {name: frozenset(numbers) for name, numbers in models.items()}
        for name in self._expected:
            self._entries.setdefault(name, {})
        for name in before:
            self._forget(name)

    def set_aliases(self, model: str, aliases: Mapping[str, str]) -> None:
        """Say what versions of a model are called: alias to number."""
        for alias in self._aliases.get(model, {}):
            if alias not in aliases:
                self._called.pop(f"{model}@{alias}", None)
        self._aliases[model] = dict(aliases)
        self._set_default(model)

    def adapt(self, model: str, version: str, package: Package) -> None:
        """Have a version that is in use take over other limits and promises about time; its files and contract are the same."""
        entry = self._entries.get(model, {}).get(version)
        if entry is not None:
            self.changes += 1
            entry.package = package
            if entry.handle is not None:
                entry.handle.adapt(package)

    def set_failed(self, model: str, version: str, package: Package, reason: str) -> None:
        """Record a version that could not be loaded elsewhere, so that callers and readers of states are told."""
        entry = Entry(version, package)
        entry.state, entry.reason = State.FAILED, reason
        self._entries.setdefault(model, {})[version] = entry
        self._aspired.setdefault(model, {})[version] = package
        self._changed()

    def count_runs(self) -> None:
        """Bring the counts of all versions up to date; called about once a second."""
        for ready in self._ready.values():
            for handle in ready.values():
                handle.count_runs()

    def loads(self) -> list[VersionLoad]:
        """Return how busy every ready version is."""
        return [
            VersionLoad(model, version, p.waiting, p.in_flight, p.waiting_rows, p.expected_wait_s())
            for model, ready in self._ready.items()
            for version, p in ((v, handle.predictor) for v, handle in ready.items() if v)
        ]

    async def step(self) -> bool:
        """Do one thing for each model towards what is wanted and return whether there was anything to do."""
        return any(await asyncio.gather(*(self._step(model) for model in list(self._aspired))))

    async def settle(self) -> None:
        """Step until nothing is left to do; models do not wait for each other, nor loads for drains."""
        await asyncio.gather(*(self._settle(model) for model in list(self._aspired)))
        while self._drains:
            await asyncio.wait(self._drains, return_when=asyncio.FIRST_COMPLETED)
            # What was wanted again while it drained can be loaded now.
            await asyncio.gather(*(self._settle(model) for model in list(self._aspired)))

    async def close(self) -> None:
        """Unload everything."""
        for model in self._aspired:
            self._aspired[model] = {}
        await self.settle()

    async def _settle(self, model: str) -> None:
        while await self._step(model):
            pass

    async def _step(self, model: str) -> bool:
        async with self._locks[model]:
            wanted = self._aspired[model]
            action = next_action(self.statuses(model), wanted, self._routed.get(model, ()))
            if action is None:
                return False
            if action.verb is Verb.LOAD:
                await self._load(model, action.version, wanted[action.version])
            else:
                self._unload(model, self._entries[model][action.version])
            return True

    async def _load(self, model: str, version: str, package: Package) -> None:
        entry = self._entries[model].setdefault(version, Entry(version, package))
        predictor: Batcher | None = None
        try:
            entry.state = State.LOADING
            sink = await self._placement.start(package, version)
            counts = self._counts(model, version) if self._counts is not None else None
            predictor = _composed(sink, package)
            handle = VersionHandle(model, version, package, predictor, counts)
            entry.state = State.WARMING
            # How long the first run of a model takes shows now; until then the warm-up's own limit is enough.
            sink.allow(WARM_UP_TIMEOUT_S)
            slowest_s = await warm_up(handle.contract, handle.check, handle.records, predictor, version)
            await _keep_apart_if_needed(handle)
            # What nobody asked for is not counted.
            predictor.observe(counts)
            sink.allow(slowest_s)
        except Exception as exc:  # a failed load is a state, whatever the reason
            entry.state = State.FAILED
            if isinstance(exc, LimenError):
                # Known and told by whoever reads the state; what lies behind it was logged where it was caught.
                entry.reason = exc.message
                LOG.info("%s version %s failed to load: %s", model, version, exc.message)
            else:
                entry.reason = "the model could not be loaded; see the log"
                LOG.warning("%s version %s failed to load", model, version, exc_info=exc, extra=ABOUT_A_PACKAGE)
            if predictor is not None:
                await _quietly(predictor.close)
            return
        entry.handle = handle
        sink.on_turn = partial(self._turned, model)
        self._publish(model, entry)

    def _publish(self, model: str, entry: Entry) -> None:
        """Make a version acquirable, then say so."""
        ready = self._ready.setdefault(model, {})
        if entry.handle is not None:
            ready[entry.version] = entry.handle
        self._set_default(model)
        entry.state = State.READY
        self._changed()

    def _turned(self, model: str) -> None:
        """Take note that a version of a model answers no more, or answers again."""
        self._set_default(model)
        self._changed()

    def _unload(self, model: str, entry: Entry) -> None:
        """Stop handing a version out, and let it go once nobody holds it."""
        entry.state = State.DRAINING
        ready = self._ready.get(model, {})
        if ready.get(entry.version) is entry.handle:
            ready.pop(entry.version, None)
        self._set_default(model)
        self._changed()
        drain = asyncio.get_running_loop().create_task(self._drain(model, entry))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)

    async def _drain(self, model: str, entry: Entry) -> None:
        handle = entry.handle
        if handle is not None:
            if handle.leases:
                handle.idle = asyncio.Event()
                try:
                    async with asyncio.timeout(self._drain_timeout_s):
                        await handle.idle.wait()
                except TimeoutError:
                    self.overdue_drains += 1
                    LOG.warning(
                        "%s version %s was unloaded with %d requests in it", model, entry.version, handle.leases
                    )
            handle.count_runs()
            await _quietly(handle.predictor.close)
        entry.state = State.UNLOADED
        if self._entries.get(model, {}).get(entry.version) is entry:
            del self._entries[model][entry.version]
            self._forget(model)
        self._changed()

    def _forget(self, model: str) -> None:
        """Know no more of a model that has no version, wants none and is not served here."""
        if not self._entries.get(model) and not self._aspired.get(model) and model not in self._expected:
            self._entries.pop(model, None)

    def _changed(self) -> None:
        self.changes += 1
        self._tell_change()

    def _set_default(self, model: str) -> None:
        """Point the empty version and the aliases at ready versions; until then they stay with those they had, while these are there."""
        self.changes += 1
        ready = self._ready.get(model, {})
        before = ready.pop("", None)
        for alias, number in self._aliases.get(model, {}).items():
            called = f"{model}@{alias}"
            if number in ready:
                self._called[called] = ready[number]
            elif self._called.get(called) not in ready.values():
                self._called.pop(called, None)
        if not ready:
            self._ready.pop(model, None)
            return
        # Those that answer first; when none does, callers are told so by one that does not.
        up = {number: handle for number, handle in ready.items() if not handle.predictor.down} or ready
        routed = next((up[n] for n in self._routed.get(model, ()) if n in up), None)
        if routed is None and not self._routed.get(model):
            routed = up[max(up, key=int)]
        if routed is None and before in ready.values():
            routed = before
        if routed is not None:
            ready[""] = routed

    def _absent(self, model: str, version: str) -> LimenError:
        name, _, alias = model.partition("@")
        if name not in self._entries:
            parse_model_name(name)
            return NotFound("no model by that name")
        if name in self.paused:
            return Unavailable("the model is unloaded", retry_after_s=SOON_S)
        found, expected = self._entries[name], self._expected.get(name, frozenset())
        known = expected | found.keys()
        if alias and known:
            number = self._aliases.get(name, {}).get(alias, "")
            if not number:
                return NotFound("this model has no such alias")
            if version not in ("", number):
                return NotFound("the alias does not point to that version")
            version = number
        if version and known:
            parse_version(version)
            if version not in known:
                return NotFound("this model has no such version")
            found = {version: found[version]} if version in found else {}
            return absence((e.state for e in found.values()), is_expected=version in expected)
        return absence((e.state for e in found.values()), is_expected=name in self._expected)


def _composed(sink: Sink, package: Package) -> Batcher:
    """Put the queue in front of a placement."""
    contract = package.manifest.contract
    is_uniform = not any(d < 0 for field in contract.inputs for d in field.shape)
    return Batcher(sink, contract.batching, is_uniform=is_uniform)


async def _keep_apart_if_needed(handle: VersionHandle) -> None:
    """Let requests of different callers share runs only if the model's rows leave each other's answers alone."""
    predictor = handle.predictor
    found = await measure(handle.check, handle.records, predictor, handle.version, budget_s=LOAD_S)
    if not found.may_merge:
        predictor.keep_apart()
        LOG.log(
            logging.INFO if found.verdict is Verdict.PASS else logging.WARNING,
            "%s version %s: %s",
            handle.model,
            handle.version,
            found.text,
        )


async def _quietly(close: Callable[[], Awaitable[None]]) -> None:
    """Close without letting a broken model keep its version alive."""
    try:
        await close()
    except Exception as exc:  # the version is going away whatever happens
        LOG.warning("closing a model failed", exc_info=exc)
