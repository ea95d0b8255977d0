"""Settings of publishing; `limen.settings` composes them with those of the other packages."""

from __future__ import annotations

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]


class PublishConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a package may cost before it is accepted. Static: read when a process starts."""

    max_archive_mb: Positive = 65_536
    """Largest archive in mebibytes. As much as a package may hold: the disk is the limit until somebody sets a lower one."""
    probe_time_s: Positive = 300
    """Seconds of processor time, and of wall time, that loading a model and answering its examples may take. As long as a
    server waits for a model to load."""
    probe_memory_mb: Positive = 4096
    """Mebibytes that a model may take while it is tried, when its package asks for no other limit. Small models are the rule,
    and one that takes everything must not take the server with it."""
    at_once: Positive = 2
    """Packages that are verified and tried out at the same time. One more is told to come again, with 503."""
    same_answers: bool = False
    """Whether a version that answers the examples of the one before it differently is refused. Off: a better model answers
    differently, and the differences are told."""
