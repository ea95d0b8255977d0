"""Settings of publishing; `limen.settings` composes them with those of the other packages."""

from __future__ import annotations

from typing import Annotated

import msgspec

from limen.contracts.bounds import Count


class PublishConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a package may cost before it is accepted."""

    max_archive_mb: Count = 65_536
    """Largest archive in mebibytes. As much as a package may hold: the disk is the limit unless a lower one is set."""
    probe_time_s: Count = 300
    """Seconds of processor time, and of wall time, that loading a model and answering its examples may take. The default is
    as long as a server waits for a model to load."""
    probe_memory_mb: Count = 4096
    """Memory in mebibytes for a model under test, unless its package sets a limit. A model that
    exhausts memory must not take the server down with it."""
    at_once: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    """Packages that are verified and tried out at the same time. One more is refused with 503 and can be sent again."""
    same_answers: bool = False
    """Whether to refuse a version that answers its predecessor's examples differently. Off by default, because a better model answers
    differently; the differences are reported either way."""
