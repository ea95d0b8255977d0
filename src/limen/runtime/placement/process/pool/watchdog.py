"""Detects hung replicas. Called by `pool` periodically."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from limen.runtime.placement.process.pool.link import Link

LOG = logging.getLogger("limen.runtime")
TIMES: Final = 3
"""How many times the slowest of its recent batches a replica may take; as many times longer when it works for somebody else."""
MAX_NAMED: Final = 8
"""Requests of a hung batch that the log names."""
_MAX_INTERVAL_S: Final = 0.5


class Watchdog:
    """Knows when each replica last went on.

    A replica hangs when it has had the same thing in hand for longer than max(3 x p99 of the recent batches, 3 x what is allowed, the
    floor), or has not begun with a batch for as long while it did nothing. What other gateways gave it is for them to judge, unless they do not.
    """

    def __init__(self, floor_s: float) -> None:
        """Never call anything hanging that takes less than `floor_s` seconds."""
        self._floor_s = floor_s
        self._allowed_s = 0.0
        self._seen: WeakKeyDictionary[Link, tuple[int, float]] = WeakKeyDictionary()
        self._killed: set[int] = set()
        self.interval_s = min(_MAX_INTERVAL_S, floor_s / 10)
        """How often to look."""

    def allow(self, run_s: float) -> None:
        """Reckon with runs of so many seconds, however short the recent ones were; replaces what was said before."""
        self._allowed_s = TIMES * run_s

    def begin(self, link: Link) -> None:
        """Look at a link that has just been connected as if for the first time."""
        self._seen.pop(link, None)
        self._killed.discard(link.pid)

    def limit_s(self, link: Link) -> float:
        """Return how long a replica may take for one thing."""
        times = sorted(link.times)
        usual_s = TIMES * times[int(0.99 * (len(times) - 1))] if times else 0.0
        return max(self._floor_s, self._allowed_s, usual_s)

    def is_hanging(self, link: Link, now: float) -> bool:
        """Return whether a replica is to be killed; once only."""
        if not (link.works or link.streams) or link.pid in self._killed:
            return False
        sent_at = next(iter(link.works.values())).sent_at if link.works else now
        if link.status is None:
            is_over = now - sent_at > self.limit_s(link)
        else:
            connection, call, step = link.status.read()
            seen, since = self._seen.get(link, (-1, now))
            if seen != step:
                self._seen[link] = step, now
                return False
            still = now - since
            if not call:
                still = min(still, now - sent_at)
            is_over = still > self._floor_s and still > self.limit_s(link) * (
                1 if not call or connection == link.number else TIMES
            )
        if is_over:
            self._killed.add(link.pid)
        return is_over


def end_hung(link: Link, label: str, hang_after_s: float) -> None:
    """Kill a replica that hangs, and say what it had in hand."""
    running = link.running
    works = [work for call, work in link.works.items() if running in (call, -1)]
    requests = [request.label for work in works for request in work.batch]
    requests += [stream.request.label for call, stream in link.streams.items() if running in (call, -1)]
    LOG.error(
        "%s: the replica %d has not gone on for longer than serving.hang_after_s (%g s) and is killed; it had request %s",
        label,
        link.pid,
        hang_after_s,
        ", ".join(requests[:MAX_NAMED]) or "of another gateway",
    )
    try:
        os.kill(link.pid, signal.SIGKILL)
    except OSError as exc:
        LOG.warning("the replica %d cannot be killed", link.pid, exc_info=exc)
