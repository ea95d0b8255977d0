"""Decides when a process that should report every second is hung. Used by `serving.supervision.supervisor`; kills nothing.

Looks are counted and not the time: after the supervisor itself was stopped, what the others said meanwhile is still unread. A process
that the machine gives no time to is slow and does not hang: it wants to run and has hardly run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from limen.serving.messages.lines import ProcessPhase
from limen.serving.supervision.child import Keeper
from limen.serving.supervision.facts import effort_of

LOOK_S: Final = 1.0
"""How often to look."""
FIRST_SILENCE_S: Final = 60.0
"""How long a process may say nothing before it has spoken for the first time, because it may have much to import."""
STARVED_S: Final = 600.0
"""How long one may say nothing that the machine gives no time to."""
STOPPED_S: Final = 6.0
"""How long one may be stopped, whatever it is allowed otherwise."""
FIRST_CPU_S: Final = 20.0
"""Seconds of CPU without a word that no process needs to import what it uses."""
STUCK_CPU_S: Final = 3.0
"""Seconds of CPU without a word that no process needs that goes on."""


@dataclass(slots=True)
class _Silence:
    """What is known of one process since it last spoke."""

    pid: int = 0
    beats: int = 0
    lasted_s: float = 0.0
    cpu_s: float = 0.0
    """CPU it had had by then."""


class Pulse:
    """Knows which processes have not said for too long that they go on."""

    def __init__(self) -> None:
        """Start with none."""
        self._silences: WeakKeyDictionary[Keeper, _Silence] = WeakKeyDictionary()

    def look(self, keepers: Iterable[Keeper], passed_s: float = LOOK_S) -> list[Keeper]:
        """Return the processes that hang, each once.

        Args:
            keepers: those to look at; one that never speaks, or is ending, is passed over.
            passed_s: seconds that a look stands for.
        """
        return [
            keeper
            for keeper in keepers
            if keeper.spec.silence_s
            and keeper.state.phase in {ProcessPhase.STARTING, ProcessPhase.RUNNING}
            and self._hangs(keeper, passed_s)
        ]

    def _hangs(self, keeper: Keeper, passed_s: float) -> bool:
        silence = self._silences.setdefault(keeper, _Silence())
        state, cpu_s = effort_of(keeper.state.pid) or ("", 0.0)
        if (silence.pid, silence.beats) != (keeper.state.pid, keeper.beats):
            self._silences[keeper] = _Silence(keeper.state.pid, keeper.beats, 0.0, cpu_s)
            return False
        silence.lasted_s += passed_s
        has_begun = keeper.beats and keeper.state.phase is ProcessPhase.RUNNING
        allowed_s = keeper.spec.silence_s if has_begun else FIRST_SILENCE_S
        if state == "T":
            # One that is stopped loads nothing.
            allowed_s = min(allowed_s, STOPPED_S)
        if silence.lasted_s < allowed_s:
            return False
        is_starved = state == "R" and cpu_s - silence.cpu_s < (STUCK_CPU_S if has_begun else FIRST_CPU_S)
        if is_starved and silence.lasted_s < STARVED_S:
            return False
        del self._silences[keeper]
        return True
