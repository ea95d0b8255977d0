"""The queue in front of a sink: who waits, in which order they leave, and who may share a batch.

Not here: when anybody leaves. Called by `runtime.batching.batcher` only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush

from limen.contracts.inference import Deadline, InferenceRequest
from limen.runtime.batching.in_flight import NOTHING, Batch, Waiter
from limen.runtime.predictor import Done

DEFAULT_PRIORITY = 100
"""Where requests rank that say nothing: room for more urgent ones before them and for less urgent ones behind."""
SPARE = 32
"""Entries that mean nothing any more are swept out once there are more than this, and more than of those that do."""


def group_of(request: InferenceRequest) -> Hashable:
    """Return what two requests must have in common to run as one: everything but the number and the values of their rows."""
    parts = [(name, array.dtype.str, array.shape[1:]) for name, array in request.inputs.items()]
    if len(parts) > 1:
        parts.sort()
    tensors = tuple(parts)
    if not request.parameters:
        return tensors
    # The text tells True, 1 and 1.0 apart, which are equal; a model may not treat them alike.
    return tensors, tuple(sorted((name, repr(value)) for name, value in request.parameters.items()))


class Group:
    """The waiting requests of one group.

    Who leaves is marked and swept out later: taking somebody out of the middle would cost as much as the group is long.
    """

    __slots__ = ("_line", "earliest", "head", "key", "live", "plain", "ranked", "rows", "since")

    def __init__(self, line: Line, key: Hashable) -> None:
        self._line = line
        self.key = key
        self.plain: deque[Waiter] = deque()
        """Those of default priority: nearly always everybody."""
        self.ranked: list[tuple[int, int, Waiter]] = []
        """The others, a heap by priority and order."""
        self.live = 0
        self.rows = 0
        self.head: tuple[int, int, Group] | None = None
        """Priority and order of its first, as the line has it in `heads`; None when nobody waits."""
        self.since = math.inf
        """Nobody here arrived before; see `measure`."""
        self.earliest = math.inf
        """Nobody here has a deadline before; see `measure`."""

    def __iter__(self) -> Iterator[Waiter]:
        yield from (waiter for waiter in self.plain if waiter.place is self)
        yield from (waiter for _, _, waiter in self.ranked if waiter.place is self)

    def measure(self) -> None:
        """Make `since` and `earliest` exact: those who have left may have set them."""
        self.since = min((waiter.arrived for waiter in self), default=math.inf)
        self.earliest = min((waiter.deadline.at for waiter in self), default=math.inf)

    def take(self, batch: Batch, max_rows: int, now: float, late: list[Waiter]) -> bool:
        """Move the first requests that fit into `batch`; return whether it is full.

        The first is taken however many rows it has, and nobody overtakes one that does not fit. Who is past its deadline goes to
        `late` instead and is for the caller to answer; when that is the first, nobody else is moved.
        """
        plain, ranked = self.plain, self.ranked
        waiters, requests = batch.waiters, batch.requests
        latest, oldest = batch.deadline, batch.oldest
        rows = late_rows = 0
        others = len(late)
        is_full = False
        while not is_full:
            if ranked and (not plain or ranked[0][0] < DEFAULT_PRIORITY):
                waiter = ranked[0][2]
                is_plain = False
            elif plain:
                waiter = plain[0]
                is_plain = True
            else:
                break
            if waiter.place is self:
                deadline = waiter.deadline
                size = waiter.rows
                if deadline.at <= now:
                    waiter.place = None
                    late.append(waiter)
                    late_rows += size
                elif waiters and rows + size > max_rows:
                    is_full = True
                    break
                else:
                    waiter.place = batch
                    waiters.append(waiter)
                    requests.append(waiter.request)
                    waiter.request = NOTHING
                    rows += size
                    is_full = rows >= max_rows
                    if deadline.at > latest.at:
                        latest = deadline
                    if waiter.arrived < oldest:  # noqa: PLR1730 - a call less for every request
                        oldest = waiter.arrived
            if is_plain:
                plain.popleft()
            else:
                heappop(ranked)
            if not waiters:
                # The one whose turn it was is late; the turn is not its group's for that.
                break
        batch.rows, batch.deadline, batch.oldest = rows, latest, oldest
        self._line.shrink(self, len(waiters) + len(late) - others, rows + late_rows)
        return is_full

    def drop(self, waiter: Waiter) -> None:
        """Count out a caller that has left."""
        self._line.shrink(self, 1, waiter.rows)
        if len(self.plain) + len(self.ranked) > SPARE + 2 * self.live:
            self.plain = deque(waiter for waiter in self.plain if waiter.place is self)
            self.ranked = [entry for entry in self.ranked if entry[2].place is self]
            heapify(self.ranked)

    def first(self) -> Waiter | None:
        """Return who leaves next, and forget those before it that have left."""
        plain, ranked = self.plain, self.ranked
        while ranked and ranked[0][2].place is not self:
            heappop(ranked)
        while plain and plain[0].place is not self:
            plain.popleft()
        if ranked and (not plain or ranked[0][0] < DEFAULT_PRIORITY):
            return ranked[0][2]
        return plain[0] if plain else None


class Line:
    """Everybody who waits, in groups that can travel together."""

    __slots__ = ("_heads", "_is_uniform", "_order", "groups", "rows", "waiting")

    def __init__(self, *, is_uniform: bool) -> None:
        self._is_uniform = is_uniform
        self._heads: list[tuple[int, int, Group]] = []
        """A heap with the head of each group, and with former ones until they come up."""
        self._order = 0
        self.groups: dict[Hashable, Group] = {}
        self.waiting = 0
        self.rows = 0

    def add(self, request: InferenceRequest, deadline: Deadline, done: Done, now: float) -> Waiter:
        """Let a request wait behind those of its priority."""
        key = None if self._is_uniform and not request.parameters else group_of(request)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(self, key)
        rows = request.rows
        self._order = order = self._order + 1
        waiter = Waiter(request, deadline, done, rows, now, order, group)
        priority = request.priority or DEFAULT_PRIORITY
        if priority == DEFAULT_PRIORITY:
            group.plain.append(waiter)
        else:
            heappush(group.ranked, (priority, order, waiter))
        head = group.head
        if head is None:
            group.since, group.earliest = now, deadline.at
            self._lead(group, priority, order)
        else:
            if priority < head[0]:
                self._lead(group, priority, order)
            if deadline.at < group.earliest:  # noqa: PLR1730 - a call less for every request
                group.earliest = deadline.at
        group.live += 1
        group.rows += rows
        self.waiting += 1
        self.rows += rows
        return waiter

    def first(self) -> Group | None:
        """Return the group of the oldest request of the highest priority; None when nobody waits."""
        heads = self._heads
        while heads:
            group = heads[0][2]
            if group.head is heads[0]:
                return group
            heappop(heads)
        return None

    def shrink(self, group: Group, requests: int, rows: int) -> None:
        """Count requests out that have left a group."""
        self.waiting -= requests
        self.rows -= rows
        group.live -= requests
        group.rows -= rows
        head = group.head
        if group.live == 0:
            group.head = None
            group.plain.clear()
            group.ranked.clear()
            # The group of those that need no key is used again and again.
            if group.key is not None:
                del self.groups[group.key]
        elif (waiter := group.first()) is not None and (head is None or waiter.order != head[1]):
            self._lead(group, waiter.request.priority or DEFAULT_PRIORITY, waiter.order)
        # Mostly the group that leaves is the one in front: without this its former heads would pile up.
        if head is not group.head and self._heads[0] is head:
            heappop(self._heads)

    def clear(self) -> list[Waiter]:
        """Send everybody away; they are for the caller to answer, in order of arrival."""
        gone = sorted((waiter for group in self.groups.values() for waiter in group), key=lambda waiter: waiter.order)
        for waiter in gone:
            waiter.place = None
        for group in list(self.groups.values()):
            self.shrink(group, group.live, group.rows)
        return gone

    def scan(self, now: float, late: list[Waiter]) -> float:
        """Add to `late` who is past its deadline and return the earliest deadline of the others."""
        earliest = math.inf
        for group in self.groups.values():
            for waiter in group:
                at = waiter.deadline.at
                if at <= now:
                    late.append(waiter)
                elif at < earliest:
                    earliest = at
        return earliest

    def _lead(self, group: Group, priority: int, order: int) -> None:
        head = group.head = (priority, order, group)
        if len(self._heads) > SPARE + 2 * len(self.groups):
            self._heads = [entry for entry in self._heads if entry[2].head is entry]
            heapify(self._heads)
        heappush(self._heads, head)
