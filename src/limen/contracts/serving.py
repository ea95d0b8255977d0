"""How to run a model, as its package declares and an endpoint overrides it. Plain values; `runtime` and `traffic` apply them."""

from __future__ import annotations

import msgspec


class Replicas(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many copies of the model run (process placement)."""

    min: int = 1
    """0 unloads an idle model: the next request waits for it to load."""
    max: int = 1
    concurrency: float = 8.0
    """Requests in flight and waiting, per replica, above which another replica starts."""
    idle_s: float = 300.0
    """Seconds without a request before a model with `min: 0` is unloaded."""


class Queue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What may wait for the model in one gateway."""

    max_requests: int = 1024
    """Requests in flight, waiting or running; the highest priority may exceed it by a sixteenth."""
    max_wait_ms: float = 1000.0
    """A request without a deadline is refused if its expected wait is longer than this."""


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one replica may use."""

    memory_mb: int | None = None
    """Mebibytes; a replica that nears the limit is replaced, and one that reaches it is ended. No limit if None."""
    cpus: int = 1
    """CPU cores: the threads of native libraries, and the processors it may run on."""


class Serving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the model wants to be run."""

    replicas: Replicas = Replicas()
    queue: Queue = Queue()
    resources: Resources = Resources()
    hang_after_s: float = 10.0
    """Seconds one run may take before its replica counts as hung and is replaced; at least three times the duration of
    warm-up and recent runs."""
