"""Whether rows of one run affect each other's answers: the finding, and its consequence for serving.

Requests of different callers share a run only if they do. `runtime.versions.independence` finds it out; `limen check`, publishing and every
gateway act on it. Pure data.
"""

from __future__ import annotations

import msgspec

from limen.contracts.catalogue import Verdict


class Independence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a comparison of rows alone and together found."""

    verdict: Verdict
    """PASS: no row changes another one's answer. FAIL: one did. INCONCLUSIVE: it could not be tested."""
    text: str
    """The finding as a sentence for people, without values."""
    may_merge: bool
    """Whether requests of different callers may share a run."""
    breaks: bool = False
    """A run of several rows fails although each row is answered alone."""
    rows: int = 0
    """Rows that were compared; 0 when none can share a run anyway."""
    largest_run: int = 0
    """Rows of the largest run they were compared in."""
