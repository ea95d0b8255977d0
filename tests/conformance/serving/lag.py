"""How long a gateway's event loop is kept from its next turn, in CPU time: a busy machine changes nothing.

A beat runs on the loop. What the process has computed between two beats, apart from the test's own thread, is what kept the loop from
turning, or shared the interpreter with it: the most that a caller of health could have waited for somebody else's request.
"""

from __future__ import annotations

import asyncio
import threading
import time

import msgspec

BEAT_S = 0.005
LIMIT_S = 0.05
"""What no request may take from everybody else at once."""
_PIECE = b"[" + b"1.25," * (64 << 10) + b"1]"


class LagProbe:
    """Beats on the loop of one gateway. Made in the thread of the test."""

    def __init__(self) -> None:
        self._own = time.pthread_getcpuclockid(threading.get_ident())
        self.worst_s = 0.0

    def take(self) -> float:
        """Return the longest time between two beats since the last look."""
        worst, self.worst_s = self.worst_s, 0.0
        return worst

    async def run(self) -> None:
        """Beat until cancelled."""
        last = self._cpu()
        while True:
            await asyncio.sleep(BEAT_S)
            now = self._cpu()
            self.worst_s = max(self.worst_s, now - last)
            last = now

    def _cpu(self) -> float:
        return time.process_time() - time.clock_gettime(self._own)


def limit_s() -> float:
    """Return the limit on this machine as it is now: one whose cores are slow, or shared with others, has more of it."""
    took = []
    for _ in range(5):
        began = time.thread_time()
        msgspec.json.decode(_PIECE)
        took.append(time.thread_time() - began)
    # On an idle core of 2024 this takes about three milliseconds.
    return LIMIT_S * max(1.0, min(took) / 0.003)
