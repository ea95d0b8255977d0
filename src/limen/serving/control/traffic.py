"""Callers' experience of every endpoint: since the server started, and in recent minutes.

Percentiles since the start hide what happens now: after a million good answers ten slow minutes do not show. Control keeps what was
counted at looks half a minute apart; the difference is what happened since. Called by `serving.control.controlplane` and `serving.control.status`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from limen.serving.messages.lines import TrafficView, WindowView
from limen.telemetry.metrics.histogram import Histogram, empty
from limen.telemetry.metrics.instrument import Scope
from limen.telemetry.metrics.instruments import REQUEST_SECONDS, REQUESTS
from limen.telemetry.metrics.totals import Totals, errors, read_folder

WINDOW_S: Final = 300.0
"""What the last minutes are."""
STEP_S: Final = 30.0
"""How far apart looks are."""


class _Counted(NamedTuple):
    """What was counted of one endpoint, over versions and protocols."""

    times: Histogram
    failed: int

    def since(self, before: _Counted) -> _Counted:
        """Return what came after an earlier look; a number that fell, because a file was lost, counts as nothing."""
        pairs = zip(self.times.counts, before.times.counts, strict=True)
        counts = tuple(max(0, now - then) for now, then in pairs)
        times = Histogram(self.times.bounds, counts, max(0.0, self.times.sum - before.times.sum))
        return _Counted(times, max(0, self.failed - before.failed))


_NOTHING: Final = _Counted(empty(REQUEST_SECONDS.bounds), 0)


class Traffic:
    """Remembers what was counted at the last looks."""

    def __init__(self) -> None:
        """Begin with a server that nobody has called."""
        self._looks: deque[tuple[float, dict[str, _Counted]]] = deque()

    async def watch(self, folder: Path, clock: Callable[[], float]) -> None:
        """Look at what the processes of a server have counted, again and again, until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                self.note(await asyncio.to_thread(read_folder, folder), clock())
            await asyncio.sleep(STEP_S)

    def note(self, totals: Totals, now: float) -> None:
        """Keep what was counted by now, in seconds that never go back."""
        self._looks.append((now, _counted(totals)))
        while len(self._looks) > 1 and now - self._looks[1][0] >= WINDOW_S:
            self._looks.popleft()

    def views(self, totals: Totals, now: float) -> dict[str, TrafficView]:
        """Return what callers have seen of each endpoint that somebody has called."""
        begun, before = self._looks[0] if self._looks else (now, {})
        found = {}
        for endpoint, counted in _counted(totals).items():
            if counted.times.count + counted.failed:
                window = counted.since(before.get(endpoint, _NOTHING)) if self._looks else _NOTHING
                recent = WindowView(
                    round(now - begun, 1), window.times.count + window.failed, window.failed, *_ms(window)
                )
                requests = counted.times.count + counted.failed
                found[endpoint] = TrafficView(requests, counted.failed, *_ms(counted), recent)
        return found


def _counted(totals: Totals) -> dict[str, _Counted]:
    found: dict[str, _Counted] = {}
    for labels in totals.series(Scope.GATEWAY):
        times, failed = found.get(labels[0], _NOTHING)
        times = times.plus(totals.histogram(REQUEST_SECONDS, labels))
        found[labels[0]] = _Counted(times, failed + sum(errors(totals.numbers(REQUESTS, labels)).values()))
    return found


def _ms(counted: _Counted) -> tuple[float, float, float]:
    p50, p95, p99 = (round(1000 * (counted.times.percentile(q) or 0.0), 3) for q in (0.5, 0.95, 0.99))
    return p50, p95, p99
