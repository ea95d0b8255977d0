"""Answers of the statistics extension, shared by REST and gRPC.

All counts only grow, so two answers subtracted give what happened between them. Names and meanings are those of Triton's statistics
extension; `latency` is our own.
"""

from __future__ import annotations

import msgspec


class Duration(msgspec.Struct, frozen=True):
    """How often something happened, and how long it took in all."""

    count: int = 0
    ns: int = 0


NONE = Duration()


class InferStatistics(msgspec.Struct, frozen=True):
    """Where the time of requests went."""

    success: Duration = NONE
    """Requests that were answered, from decoded to answered."""
    fail: Duration = NONE
    queue: Duration = NONE
    """Batches, and how long the oldest request of each had waited when it left."""
    compute_input: Duration = NONE
    """Not measured apart: `compute_infer` includes it."""
    compute_infer: Duration = NONE
    """Requests that were run; each counts the whole run that it was part of."""
    compute_output: Duration = NONE
    """Not measured apart: `compute_infer` includes it."""
    cache_hit: Duration = NONE
    cache_miss: Duration = NONE


class ResponseStatistics(msgspec.Struct, frozen=True):
    """One answer of several to a request, by its index."""

    compute_infer: Duration = NONE
    compute_output: Duration = NONE
    success: Duration = NONE
    fail: Duration = NONE
    empty_response: Duration = NONE
    cancel: Duration = NONE


class BatchStatistics(msgspec.Struct, frozen=True):
    """The runs of about one size."""

    batch_size: int
    """Rows: the most that are in the bucket, a power of 2."""
    compute_input: Duration = NONE
    compute_infer: Duration = NONE
    """Runs of this size."""
    compute_output: Duration = NONE


class MemoryUsage(msgspec.Struct, frozen=True):
    """Memory that a version holds on one device."""

    type: str
    """CPU, CPU_PINNED or GPU."""
    id: int
    byte_size: int


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of the time that answered requests took, in milliseconds; None before there was one."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class ModelStatistics(msgspec.Struct, frozen=True):
    """What was counted for one version."""

    name: str
    version: str
    last_inference: int = 0
    """When the model last ran, in milliseconds since the epoch; 0 if it never has."""
    inference_count: int = 0
    """Rows that were answered."""
    execution_count: int = 0
    """Runs of the model."""
    inference_stats: InferStatistics = InferStatistics()
    response_stats: dict[str, ResponseStatistics] = {}
    batch_stats: tuple[BatchStatistics, ...] = ()
    memory_usage: tuple[MemoryUsage, ...] = ()
    latency: Latency = Latency()


class StatisticsDocument(msgspec.Struct, frozen=True):
    """The body of a REST answer."""

    model_stats: list[ModelStatistics]
