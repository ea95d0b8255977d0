"""How a model wants to be run, as its package says and as an endpoint may say otherwise. Plain values; `runtime` and `traffic` act on them."""

from __future__ import annotations

import msgspec


class Replicas(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many copies of the model run (process placement)."""

    min: int = 1
    """0 lets an idle model go: the next request waits for it to load."""
    max: int = 1
    concurrency: float = 8.0
    """Requests in hand and waiting, per replica, above which one more is started."""
    idle_s: float = 300.0
    """Seconds without a request before a model with `min: 0` is let go."""


class Queue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What may wait for the model in one gateway."""

    max_requests: int = 1024
    """Requests in hand, waiting or running; the highest priority may go a sixteenth beyond it."""
    max_wait_ms: float = 1000.0
    """A request without a deadline is refused when it would be expected to wait longer than this."""


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one replica may use."""

    memory_mb: int | None = None
    """Mebibytes; the replica is replaced before it reaches them and ended when it does. No limit when None."""
    cpus: int = 1
    """Cores: threads of native libraries, and the processors it may run on."""


class Serving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the model wants to be run."""

    replicas: Replicas = Replicas()
    queue: Queue = Queue()
    resources: Resources = Resources()
    hang_after_s: float = 10.0
    """Seconds that one run may take before its replica is taken for hung and replaced; never less than three times what runs took in
    the warm-up, and lately."""
