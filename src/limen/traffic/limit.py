"""The concurrency limit of a placement: measured, never configured.

Not here: counting requests and refusing them. A lane of `traffic.admission` has one limit and tells it what happened in each window.
"""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 0.1
"""How long the limit looks before it moves; longer while fewer than `LOOK_EVERY` requests have ended."""
FORGET_S: Final = 2.0
"""A calm window longer than this says that what was measured before is out of date."""
BUCKET_WINDOWS: Final = 8
"""The best rate of this window's bucket and the one before it counts: 0.8 to 1.6 s."""

MIN_WAITING: Final = 16
"""The limit leaves room for this many waiting requests, and for as many as run at once, unless deadlines are missed."""
DROP_SHARE: Final = 0.05
"""The share of missed deadlines in a busy window above which the limit backs off."""
BACK_OFF: Final = 0.9
STEP: Final = 0.02
"""A full recovery takes at most 48 windows, which is below five seconds."""
MIN_SCALE: Final = 0.05

_UNKNOWN: Final = -1.0


class AdaptiveLimit:
    """How many requests may be in hand so that the queue in front of a placement stays about `target_s` long.

    Little's law (1961) says that a placement that ends `rate` requests a second clears `rate x target_s` waiting ones in `target_s`:

        limit = scale x (at_once + max(at_once, 16, rate x target_s))        between at_once and the ceiling

    - `rate` is the best rate of recent busy windows, as BBR (Cardwell et al., 2016) takes the maximum of recent delivery rates: one
      stall does not lower it, and what is measured while callers ask for little says nothing and is left out. A window is busy when
      the mean number in hand, again by Little's law, is at least `at_once`. Without a recent busy window the limit is the ceiling; a
      first one that is long may hold a cold start or a stall, so it takes a second one.
    - `scale` is additive increase, multiplicative decrease (Chiu and Jain, 1989) on missed deadlines: x 0.9 after a busy window with more
      than 5 % of them, + 0.02 after any other. It finds the limit for callers whose deadlines are shorter than `target_s`.

    There is no long-term latency that could drift under lasting overload: whatever happened before, 1.6 s of steady load give the rate
    and 48 good windows the scale.
    """

    __slots__ = ("_at_once", "_best", "_ceiling", "_had_long", "_older", "_scale", "_target_s", "_windows", "value")

    def __init__(self, at_once: int, ceiling: int, target_s: float) -> None:
        """Start at the ceiling: what is not known is not refused.

        Args:
            at_once: requests the placement works on at the same time; the limit is never lower.
            ceiling: the limit is never higher.
            target_s: seconds a request may wait under lasting overload.
        """
        self._best = self._older = _UNKNOWN
        self._scale = 1.0
        self._windows = 0
        self._had_long = False
        self.resize(at_once, ceiling, target_s)

    def resize(self, at_once: int, ceiling: int, target_s: float) -> None:
        """Go on with other bounds and what has been measured."""
        self._ceiling = max(1, ceiling)
        self._at_once = min(max(1, at_once), self._ceiling)
        self._target_s = target_s
        self._fit()

    @property
    def rate(self) -> float | None:
        """Requests a second that the placement ends when it is busy; None when it has not been busy lately."""
        rate = max(self._best, self._older)
        return None if rate < 0 else rate

    def forget(self) -> None:
        """Drop what has been measured: it is out of date."""
        self._best = self._older = _UNKNOWN
        self._scale = 1.0
        self._windows = 0
        self._had_long = False
        self._fit()

    def update(self, elapsed_s: float, served: int, dropped: int, held_s: float) -> None:
        """Take one window into account.

        Args:
            elapsed_s: how long the window was; above 0.
            served: requests that were answered in time.
            dropped: requests that missed their deadline.
            held_s: seconds that all of them were in hand, added up.
        """
        is_busy = held_s >= self._at_once * elapsed_s
        if not is_busy and elapsed_s >= FORGET_S:
            self.forget()
            return
        if is_busy and (self._had_long or elapsed_s < 2 * WINDOW_S or self.rate is not None):
            self._best = max(self._best, served / elapsed_s)
        elif is_busy:
            self._had_long = True
        if is_busy and dropped > DROP_SHARE * (served + dropped):
            self._scale = max(MIN_SCALE, self._scale * BACK_OFF)
        else:
            self._scale = min(1.0, self._scale + STEP)
        self._fit()
        self._windows += 1
        if self._windows == BUCKET_WINDOWS:
            self._windows = 0
            self._had_long = self.rate is not None
            self._older, self._best = self._best, _UNKNOWN

    def _fit(self) -> None:
        rate = max(self._best, self._older)
        if rate < 0:
            wanted = float(self._ceiling)
        else:
            wanted = self._at_once + max(self._at_once, MIN_WAITING, rate * self._target_s)
        self.value = int(max(self._at_once, min(self._ceiling, wanted * self._scale)))
