"""All metrics in one table: name, description, labels and cells.

The table decides the layout of the files (`telemetry.metrics.file`), the text for Prometheus (`telemetry.metrics.exposition`) and the page
docs/reference/metrics.md. Who counts: `telemetry.metrics.series`. To add a metric, add a row to `TABLE`, a method that counts it and a row to
the page.
"""

from __future__ import annotations

import zlib
from typing import Final

from limen.contracts.errors import ErrorCode
from limen.telemetry.metrics.histogram import ROWS, SECONDS
from limen.telemetry.metrics.instrument import OTHER, Instrument, Kind, Scope

OK: Final = "OK"
"""The outcome of a request that was answered; others have the name of their `ErrorCode`."""
OUTCOMES: Final = (OK, *(code.value for code in ErrorCode))
RELEASES: Final = ("full", "idle", "window", "deadline", OTHER)
SHEDS: Final = ("count", "time", "limit", "retry", "share", OTHER)
ENDS: Final = ("idle", "slow", "crowded", "gone")
HTTP_STATUSES: Final = (
    *("400", "401", "403", "404", "405", "408", "409", "411", "412", "413", "414", "415", "421", "429", "431", "499"),
    *("500", "501", "503", "504", "505", OTHER),
)

REQUEST_SECONDS: Final = Instrument(
    name="limen_gateway_request_seconds",
    kind=Kind.HISTOGRAM,
    scope=Scope.GATEWAY,
    bounds=SECONDS,
    help="Duration of answered requests, from the decoded request to the checked answer.",
)
REQUESTS: Final = Instrument(
    name="limen_gateway_requests_total",
    kind=Kind.COUNTER,
    scope=Scope.GATEWAY,
    own_labels=("code",),
    values=OUTCOMES,
    help="Requests by outcome: OK, or the code of the error.",
)
FAILED_SECONDS: Final = Instrument(
    name="limen_gateway_failed_seconds_total",
    kind=Kind.COUNTER,
    scope=Scope.GATEWAY,
    help="Time spent on requests that ended in an error.",
)
ANSWERED_ROWS: Final = Instrument(
    name="limen_gateway_rows_total",
    kind=Kind.COUNTER,
    scope=Scope.GATEWAY,
    help="Rows of answered requests.",
)
QUEUE_SECONDS: Final = Instrument(
    name="limen_runtime_queue_seconds",
    kind=Kind.HISTOGRAM,
    scope=Scope.RUNTIME,
    bounds=SECONDS,
    help="Wait of the oldest request of a batch when the batch started.",
)
BATCH_ROWS: Final = Instrument(
    name="limen_runtime_batch_rows",
    kind=Kind.HISTOGRAM,
    scope=Scope.RUNTIME,
    bounds=ROWS,
    help="Rows of a model's runs.",
)
BATCH_SECONDS: Final = Instrument(
    name="limen_runtime_batch_seconds",
    kind=Kind.HISTOGRAM,
    scope=Scope.RUNTIME,
    bounds=SECONDS,
    help="Duration of a model's runs, including the way to its replica and back.",
)
BATCHES: Final = Instrument(
    name="limen_runtime_batches_total",
    kind=Kind.COUNTER,
    scope=Scope.RUNTIME,
    own_labels=("reason",),
    values=RELEASES,
    help="Batches started, by cause: full, the model was idle, the window or a deadline ended.",
)
RUN_REQUESTS: Final = Instrument(
    name="limen_runtime_run_requests_total",
    kind=Kind.COUNTER,
    scope=Scope.RUNTIME,
    help="Requests that were part of a model's run.",
)
REQUEST_RUN_SECONDS: Final = Instrument(
    name="limen_runtime_run_request_seconds_total",
    kind=Kind.COUNTER,
    scope=Scope.RUNTIME,
    help="Duration of runs, counted once for every request in them.",
)
SIZE_SECONDS: Final = Instrument(
    name="limen_runtime_batch_size_seconds_total",
    kind=Kind.COUNTER,
    scope=Scope.RUNTIME,
    own_labels=("rows",),
    values=(*(str(bound) for bound in ROWS), "+Inf"),
    help="Total duration of a model's runs, by bucket of rows.",
)
LAST_RUN: Final = Instrument(
    name="limen_runtime_last_run_timestamp_seconds",
    kind=Kind.GAUGE,
    scope=Scope.RUNTIME,
    is_latest=True,
    help="Time of a model's last run, in seconds since the epoch; 0 if it never ran.",
)
MODEL_FAILURES: Final = Instrument(
    name="limen_runtime_model_failures_total",
    kind=Kind.COUNTER,
    scope=Scope.RUNTIME,
    help="Failed runs: the model raised an error, broke its contract or ended its process.",
)
FALLBACKS: Final = Instrument(
    name="limen_runtime_fallbacks_total",
    kind=Kind.COUNTER,
    scope=Scope.RUNTIME,
    help="Requests answered by the declared fallback.",
)
SHED: Final = Instrument(
    name="limen_runtime_shed_requests_total",
    kind=Kind.COUNTER,
    scope=Scope.RUNTIME,
    own_labels=("reason",),
    values=SHEDS,
    help="Requests refused before they waited: by count, expected time, the adaptive limit, as a retry, by fair share, or other.",
)
CANCELLED: Final = Instrument(
    name="limen_runtime_cancelled_requests_total",
    kind=Kind.COUNTER,
    scope=Scope.RUNTIME,
    help="Requests whose caller disconnected before the answer was ready.",
)
CONNECTIONS: Final = Instrument(
    name="limen_gateway_connections",
    kind=Kind.GAUGE,
    scope=Scope.PROCESS,
    own_labels=("protocol",),
    values=("http", "grpc"),
    help="Open connections.",
)
HELD_BYTES: Final = Instrument(
    name="limen_gateway_held_bytes",
    kind=Kind.GAUGE,
    scope=Scope.PROCESS,
    help="Bytes of large bodies and unread answers currently held.",
)
MAX_HELD_BYTES: Final = Instrument(
    name="limen_gateway_max_held_bytes",
    kind=Kind.GAUGE,
    scope=Scope.PROCESS,
    help="The limit of these bytes; large bodies beyond it are refused.",
)
REFUSED_BODIES: Final = Instrument(
    name="limen_gateway_refused_bodies_total",
    kind=Kind.COUNTER,
    scope=Scope.PROCESS,
    help="Large bodies refused because too many bytes were held.",
)
HTTP_ERRORS: Final = Instrument(
    name="limen_gateway_http_errors_total",
    kind=Kind.COUNTER,
    scope=Scope.PROCESS,
    own_labels=("status",),
    values=HTTP_STATUSES,
    help="HTTP requests answered with an error, including those that reached no model, by status.",
)
HTTP_ENDED: Final = Instrument(
    name="limen_gateway_http_ended_connections_total",
    kind=Kind.COUNTER,
    scope=Scope.PROCESS,
    own_labels=("reason",),
    values=ENDS,
    help="HTTP connections ended by the gateway: idle, slow, to make room for others (crowded), or gone.",
)
GRPC_ENDED: Final = Instrument(
    name="limen_gateway_grpc_ended_connections_total",
    kind=Kind.COUNTER,
    scope=Scope.PROCESS,
    own_labels=("reason",),
    values=ENDS,
    help="gRPC connections ended by the gateway: idle, slow (no HTTP/2 or no whole message "
    "in time), to make room (crowded), or gone (the peer has vanished).",
)
PAUSES: Final = Instrument(
    name="limen_gateway_accept_pauses_total",
    kind=Kind.COUNTER,
    scope=Scope.PROCESS,
    help="How often HTTP callers had to wait for a free connection.",
)
IN_FLIGHT: Final = Instrument(
    name="limen_gateway_in_flight_requests",
    kind=Kind.GAUGE,
    scope=Scope.PROCESS,
    help="Requests in flight.",
)
DROPPED_LINES: Final = Instrument(
    name="limen_telemetry_dropped_lines_total",
    kind=Kind.COUNTER,
    scope=Scope.PROCESS,
    help="Lines of the request log lost because the log's reader was too slow.",
)
LOST_SERIES: Final = Instrument(
    name="limen_telemetry_lost_series",
    kind=Kind.GAUGE,
    scope=Scope.PROCESS,
    help="Series missing from these numbers because the disk is full; their counts are added when there is space.",
)
REPLICAS: Final = Instrument(
    name="limen_runtime_replicas",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("endpoint", "version", "state"),
    help="Replicas of a version, by state.",
)
REPLICA_STATE: Final = Instrument(
    name="limen_runtime_replica_state",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("endpoint", "version", "replica", "state"),
    help="1 for the current state of a replica.",
)
PROCESS_STATE: Final = Instrument(
    name="limen_process_state",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("process", "state"),
    help="1 for the current state of a process.",
)
RESIDENT_BYTES: Final = Instrument(
    name="limen_process_resident_bytes",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("process",),
    help="Resident memory of a process.",
)
RESTARTS: Final = Instrument(
    name="limen_process_restarts_total",
    kind=Kind.COUNTER,
    scope=Scope.OBSERVED,
    own_labels=("process",),
    help="Restarts of a process after an unexpected end.",
)
DISK_FREE: Final = Instrument(
    name="limen_server_disk_free_bytes",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    help="Free space on the disk of the home.",
)
OPEN_FILES: Final = Instrument(
    name="limen_process_open_fds",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("process",),
    help="Open files of the supervisor, control or a gateway.",
)
MAX_OPEN_FILES: Final = Instrument(
    name="limen_process_max_fds",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("process",),
    help="Limit of open files of such a process.",
)
HANGS: Final = Instrument(
    name="limen_process_hangs_total",
    kind=Kind.COUNTER,
    scope=Scope.OBSERVED,
    own_labels=("process",),
    help="How often control or a gateway was killed because it hung.",
)
ENDPOINT_CONDITION: Final = Instrument(
    name="limen_endpoint_condition",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("endpoint", "condition", "status"),
    help="1 for the status (true, false, unknown) of an endpoint's condition: Ready, Stale, Progressing, Degraded.",
)
ENDPOINT_CONDITION_REASON: Final = Instrument(
    name="limen_endpoint_condition_reason",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("endpoint", "condition", "reason"),
    help="1 for the reason of an endpoint's condition that is not as it should be.",
)
SERVER_CONDITION: Final = Instrument(
    name="limen_server_condition",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("condition", "status"),
    help="1 for the status (true, false, unknown) of the server's condition: Ready, Stale, Progressing, Degraded.",
)
REVISION: Final = Instrument(
    name="limen_registry_revision",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    help="Revision of the registry that the server follows; it grows with every change.",
)
REPORT_AGE: Final = Instrument(
    name="limen_gateway_report_age_seconds",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("process",),
    help="Time since a gateway's last report. Gateways report every second.",
)
BUILD_INFO: Final = Instrument(
    name="limen_build_info",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("version", "python", "platform"),
    help="Always 1; the labels give the release of Limen and its environment.",
)
SERVER_CONDITION_REASON: Final = Instrument(
    name="limen_server_condition_reason",
    kind=Kind.GAUGE,
    scope=Scope.OBSERVED,
    own_labels=("condition", "reason"),
    help="1 for the reason of the server's condition that is not as it should be.",
)

TABLE: Final = (
    *(REQUEST_SECONDS, REQUESTS, FAILED_SECONDS, ANSWERED_ROWS),
    *(QUEUE_SECONDS, BATCH_ROWS, BATCH_SECONDS, BATCHES),
    *(RUN_REQUESTS, REQUEST_RUN_SECONDS, SIZE_SECONDS, LAST_RUN),
    *(MODEL_FAILURES, FALLBACKS, SHED, CANCELLED),
    *(CONNECTIONS, IN_FLIGHT, DROPPED_LINES, LOST_SERIES),
    *(HELD_BYTES, MAX_HELD_BYTES, REFUSED_BODIES, HTTP_ERRORS, HTTP_ENDED, GRPC_ENDED, PAUSES),
    *(REPLICAS, REPLICA_STATE, PROCESS_STATE, RESIDENT_BYTES, OPEN_FILES, MAX_OPEN_FILES, RESTARTS, HANGS, DISK_FREE),
    *(ENDPOINT_CONDITION, ENDPOINT_CONDITION_REASON, SERVER_CONDITION, SERVER_CONDITION_REASON),
    *(REVISION, REPORT_AGE, BUILD_INFO),
)
"""All of them, in the order of the text and of the cells of a series."""


def _offsets() -> dict[str, int]:
    found: dict[str, int] = {}
    used = dict.fromkeys(Scope, 0)
    for instrument in TABLE:
        found[instrument.name] = used[instrument.scope]
        used[instrument.scope] += instrument.cells
    return found


_OFFSETS: Final = _offsets()
CELLS: Final = max(sum(i.cells for i in TABLE if i.scope is s) for s in Scope if s is not Scope.OBSERVED)
"""Cells of a series; all series have as many as the largest scope needs."""
FINGERPRINT: Final = zlib.crc32(
    repr(
        [(i.scope.value, i.name, i.kind.value, i.values, i.bounds) for i in TABLE if i.scope is not Scope.OBSERVED]
    ).encode()
)
"""Changes with anything that changes what a cell means, so that nobody reads numbers of another version of Limen as his own."""


def offset(instrument: Instrument) -> int:
    """Return the first cell of an instrument in a series of its scope."""
    return _OFFSETS[instrument.name]


GAUGES: Final = tuple(
    offset(i) + cell for i in TABLE if i.scope is Scope.PROCESS and i.kind is Kind.GAUGE for cell in range(i.cells)
)
"""The cells of a process that are only true while it lives."""
LATEST: Final = {
    scope.value: tuple(offset(i) for i in TABLE if i.scope is scope and i.is_latest)
    for scope in Scope
    if scope is not Scope.OBSERVED
}
"""The cells of a scope of which the largest counts where series are put together, instead of the sum."""
