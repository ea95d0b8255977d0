"""How many replicas a version should have: a pure decision from measurements.

Not here: starting and ending processes, and the single flight of a cold start (there is one replica to wait for because this returns 1).
Called by the control process about once a second, with the sums of what the gateways report.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from limen.contracts.serving import Replicas

SMOOTHING_S: Final = 5.0
"""Time constant of the average of the demand: a step is followed in seconds, one tick's burst is not."""
RISE_S: Final = 3.0
"""How long the averaged demand must stay above what is there before replicas are added."""
QUEUE_S: Final = 0.5
"""A request that waits longer than this asks for one more replica, whatever the number in hand."""
SLACK: Final = 0.7
"""A replica goes when the others would be no fuller than this. The gap to 1, where one is added, is the hysteresis."""
STABLE_S: Final = 60.0
"""How long the demand must stay low before each replica that goes."""
TURN_S: Final = 60.0
"""The least time between two changes of direction."""
GRACE_LOADS: Final = 2.0
"""How many measured load times a starting replica is waited for before scaling down is possible again."""
MIN_GRACE_S: Final = 30.0
"""The grace when no load has been measured, or a very short one."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one version, over all gateways."""

    in_hand: int
    """Requests running and waiting, those that wait for a cold start included."""
    queue_s: float = 0.0
    """How long the oldest waiting request has waited."""
    ready: int
    """Replicas that take requests."""
    starting: int = 0
    """Replicas that do not yet."""
    idle_s: float = 0.0
    """Since the last request."""
    load_s: float = 0.0
    """The measured time a replica takes to load and warm up; 0 when unknown."""


class ScalingState(msgspec.Struct, frozen=True, kw_only=True):
    """What the decision has to remember between two calls."""

    count: int | None = None
    """The last answer; None before the first."""
    demand: float = 0.0
    """Replicas the load is worth, averaged."""
    seen_at: float | None = None
    """When the load was last looked at."""
    high_at: float | None = None
    """Since when there have been too few replicas; None when there are not."""
    low_at: float | None = None
    """Since when a replica could go, and the last one went; None when none could."""
    starting_at: float | None = None
    """Since when replicas have been starting; None when none are."""
    direction: int = 0
    """Of the last change: 1 up, -1 down, 0 before the first."""
    turned_at: float = -math.inf
    """When the direction last changed."""


def next_count(settings: Replicas, load: Load, state: ScalingState, now: float) -> tuple[int, ScalingState]:
    """Return how many replicas there should be, and the state for the next call.

    - *Up* when the averaged demand stays above what is there; never to more than twice the replicas that are ready, because a backlog looks
      like more demand than there is. Nothing is added on account of requests that wait for the very first replica.
    - *Down* one at a time, after a minute of low demand each, and not while replicas start.
    - *To zero* only with `min: 0`, when there has been no request for `idle_s`. *From zero* on the first request, at once.
    - The direction changes at most once a minute. Only waking from zero does not wait for that: a caller does.

    Args:
        settings: the bounds, and the requests in hand that one replica is meant for.
        load: what is measured.
        state: what the last call returned; `ScalingState()` for the first one, which keeps what is there.
        now: seconds on a clock that never goes back.
    """
    highest = max(settings.max, settings.min, 1)
    there = load.ready + load.starting if state.count is None else state.count
    count = min(max(there, settings.min), highest)
    state = _seen(settings, load, state, now, count)
    wanted = _wanted(settings, load, state, now, count, highest)
    if wanted == count:
        return count, state
    direction = 1 if wanted > count else -1
    is_turn = state.direction == -direction
    is_wake = count == 0
    if is_turn and not is_wake and now - state.turned_at < TURN_S:
        return count, state
    return wanted, msgspec.structs.replace(
        state,
        count=wanted,
        direction=direction,
        turned_at=now if is_turn else state.turned_at,
        high_at=None,
        low_at=None if direction > 0 else now,
    )


def _seen(settings: Replicas, load: Load, state: ScalingState, now: float, count: int) -> ScalingState:
    """Return the state with this load taken into account."""
    demand = load.in_hand / settings.concurrency
    if load.queue_s > QUEUE_S:
        demand = max(demand, load.ready + 1.0)
    demand = min(demand, 2.0 * load.ready if load.ready else float(count))
    passed_s = 0.0 if state.seen_at is None else max(0.0, now - state.seen_at)
    demand = state.demand + (demand - state.demand) * -math.expm1(-passed_s / SMOOTHING_S)
    is_high, is_low = demand > count, demand < SLACK * (count - 1)
    return msgspec.structs.replace(
        state,
        count=count,
        demand=demand,
        seen_at=now,
        high_at=(now if state.high_at is None else state.high_at) if is_high else None,
        low_at=(now if state.low_at is None else state.low_at) if is_low else None,
        starting_at=(now if state.starting_at is None else state.starting_at) if load.starting else None,
    )


def _wanted(settings: Replicas, load: Load, state: ScalingState, now: float, count: int, highest: int) -> int:
    """Return the count the load asks for, whatever the direction of the last change."""
    if count == 0:
        return 1 if load.in_hand else 0
    more = min(math.ceil(state.demand), 2 * load.ready, highest)
    if more > count and state.high_at is not None:
        return more if now - state.high_at >= RISE_S else count
    grace_s = max(GRACE_LOADS * load.load_s, MIN_GRACE_S)
    if state.starting_at is not None and now - state.starting_at < grace_s:
        return count
    if settings.min == 0 and not load.in_hand and load.idle_s >= settings.idle_s:
        return 0
    if state.low_at is not None and now - state.low_at >= STABLE_S:
        return max(count - 1, settings.min, 1)
    return count
