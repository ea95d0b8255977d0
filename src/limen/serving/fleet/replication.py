"""The number of replicas of a live version, replacements, and pauses between starts: decisions only.

Used by `serving.fleet.fleet`. The number itself comes from `serving.fleet.scaling`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from limen.runtime.placement.process.wire.start import RECYCLE_AT
from limen.runtime.versions.lifecycle import VersionLoad
from limen.serving.fleet.records import DEATH_WINDOW_S, MAX_OOMS, Phase, Replica, Version
from limen.serving.fleet.scaling import Load, ScalingState, next_count
from limen.serving.messages.lines import ProcessPhase

RECYCLE_PAUSE_S = 2.0
"""Between two attempts to replace replicas of one version, at first; then twice as long each time, as long as they follow closely."""
MAX_RECYCLE_PAUSE_S = 60.0
AHEAD_S = 3.0
"""How far ahead the growth of a replica is looked at: its successor has to start before it is too late."""


class Plan(NamedTuple):
    """What is to change about the replicas of one version."""

    starts: tuple[str, ...] = ()
    """One entry for each replica to start: the name of the one whose place it takes, or nothing."""
    leaves: tuple[Replica, ...] = ()


def note_death(version: Version, replica: Replica, now: float, *, is_oom: bool) -> None:
    """Take note that a replica has ended; a version that keeps running out of memory is not started again for a while."""
    replica.end = "out of memory" if is_oom else f"ended with status {replica.status}"
    if is_oom:
        version.ooms = [at for at in version.ooms if at > now - DEATH_WINDOW_S] + [now]
    if version.phase is not Phase.LIVE:
        return
    limit = version.opened.serving.resources.memory_mb
    if is_oom and len(version.ooms) > MAX_OOMS:
        shown = f" of {limit} MiB" if limit else ""
        text = f"the model ran out of its memory{shown} {len(version.ooms)} times in ten minutes"
    elif replica.phase is ProcessPhase.ENDED and replica.is_staying:
        text = f"the model's process keeps ending, most recently with status {replica.status}"
    else:
        return
    version.block, version.blocked_until = f"{text}; restarts are paused", now + DEATH_WINDOW_S
    version.replicas.pop(replica.name, None)


def measure(version: Version, share: Callable[[int, int], float], passed_s: float) -> bool:
    """Note how much of its memory each replica of a version uses, and return whether there is a limit.

    Args:
        version: changed.
        share: takes a process id and a limit in mebibytes.
        passed_s: since the last time.
    """
    limit = version.opened.serving.resources.memory_mb
    for replica in version.replicas.values() if limit else ():
        before, replica.share = replica.share, 0.0
        if limit and replica.phase is ProcessPhase.RUNNING:
            replica.share = share(replica.pid, limit)
        grown = (replica.share - before) / passed_s if before and replica.share else 0.0
        replica.growth = (replica.growth[1], grown)
    return bool(limit) and bool(version.replicas)


def plan(version: Version, loads: Sequence[VersionLoad], now: float) -> Plan:
    """Return which replicas of a live version should start and which should go."""
    if version.block and now >= version.blocked_until:
        version.block, version.ooms = "", []
    starts, leaves = _recycle(version, now)
    # Whoever is about to be replaced counts, and who replaces it does so afterwards.
    counted = [r for r in version.staying() if not r.replaces and r not in leaves]
    counted += [r for r in version.staying() if r.replaces and r.replaces not in {c.name for c in counted}]
    target = _target(version, counted, loads, now)
    if version.block:
        return Plan((), tuple(leaves))
    starts += [""] * (target - len(counted))
    if target < len(counted):
        # Those that have not loaded yet first, then the youngest.
        ranked = sorted(counted, key=lambda r: r.was_ready)
        ready = sum(r.was_ready for r in counted)
        ranked = ranked[: len(counted) - ready] + ranked[len(counted) - ready :][::-1]
        leaves += ranked[: len(counted) - target]
    return Plan(tuple(starts), tuple(leaves))


def _recycle(version: Version, now: float) -> tuple[list[str], list[Replica]]:
    """Replace one replica at a time that has grown too large: the successor is ready before the other one goes."""
    successor = next((r for r in version.staying() if r.replaces), None)
    if successor is not None:
        old = version.replicas.get(successor.replaces)
        if successor.failed:
            version.overgrown = successor.failed
            return [], [successor]
        if successor.was_ready or old is None:
            successor.replaces = version.overgrown = ""
            return [], [old] if old is not None and old.is_staying else []
        return [], []
    since = now - version.recycled_at
    if since < version.recycle_pause_s:
        return [], []
    largest = max(version.staying(), key=_share_soon, default=None)
    if largest is None or _share_soon(largest) < RECYCLE_AT:
        version.overgrown = ""
        return [], []
    is_close = since < 2 * MAX_RECYCLE_PAUSE_S
    pause = min(2 * version.recycle_pause_s, MAX_RECYCLE_PAUSE_S) if is_close else RECYCLE_PAUSE_S
    version.recycled_at, version.recycle_pause_s = now, pause
    return [largest.name], []


def _share_soon(replica: Replica) -> float:
    """Return how much of its memory a replica will use if it goes on as it did at both of the last two looks."""
    return replica.share + AHEAD_S * max(0.0, min(replica.growth))


def _target(version: Version, counted: Sequence[Replica], loads: Sequence[VersionLoad], now: float) -> int:
    ready = sum(r.was_ready for r in counted)
    in_hand = sum(load.waiting + load.in_flight for load in loads)
    requests = sum(load.requests for load in loads)
    if in_hand or version.is_woken or version.busy_at < 0 or requests != version.requests:
        version.requests, version.busy_at = requests, now
    load = Load(
        in_hand=max(in_hand, int(version.is_woken)),
        queue_s=max((load.wait_s for load in loads if load.waiting), default=0.0),
        ready=ready,
        starting=len(counted) - ready,
        idle_s=now - version.busy_at,
        load_s=version.load_s,
    )
    if ready:
        version.is_woken = False
    target, version.scaling = next_count(version.opened.serving.replicas, load, version.scaling or ScalingState(), now)
    return target
