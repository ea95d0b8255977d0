"""The metrics text of a whole server: its gateways' counts, and control's view of its processes."""

from __future__ import annotations

import asyncio
import platform
from collections import Counter
from collections.abc import Iterable, Iterator

from limen._version import __version__
from limen.contracts.conditions import Condition, ConditionStatus
from limen.runtime.sandbox.open_files import limit_of, open_files
from limen.serving.control.controlplane import ControlPlane
from limen.serving.control.room import free_bytes
from limen.serving.messages.lines import Status
from limen.serving.supervision import run_folder
from limen.telemetry.metrics import instruments as table
from limen.telemetry.metrics.exposition import Reading, exposition
from limen.telemetry.metrics.instrument import Instrument
from limen.telemetry.metrics.totals import Totals, read_folder


async def metrics_text(control: ControlPlane) -> bytes:
    """Return every metric of now as Prometheus text; control goes on meanwhile."""
    totals = await asyncio.to_thread(read_folder, run_folder.metrics(control.config.run))
    status, naming, own = control.status(Totals()), control.retired.naming(), tuple(_of_control(control))

    def made() -> bytes:
        seen = [*readings(status), *own]
        if (free := free_bytes(control.config.run)) is not None:
            seen.append(Reading(table.DISK_FREE, (), float(free)))
        return exposition(totals.renamed(naming), seen)

    return await asyncio.to_thread(made)


def readings(status: Status) -> Iterator[Reading]:
    """Yield what is not counted but seen: the state of processes, endpoints and the server."""
    replicas: Counter[tuple[str, str, str]] = Counter()
    seen: set[str] = set()
    for process in status.processes:
        if process.name in seen:  # a gateway and its successor have one name
            continue
        seen.add(process.name)
        yield Reading(table.PROCESS_STATE, (process.name, process.phase), 1.0)
        yield Reading(table.RESIDENT_BYTES, (process.name,), float(process.rss_bytes))
        yield Reading(table.RESTARTS, (process.name,), float(process.restarts))
        yield Reading(table.HANGS, (process.name,), float(process.hangs))
        if not process.model:
            yield Reading(table.OPEN_FILES, (process.name,), float(open_files(process.pid)))
            yield Reading(table.MAX_OPEN_FILES, (process.name,), float(limit_of(process.pid)))
        if process.model:
            key = (process.model, process.version, process.phase)
            replicas[key] += 1
            yield Reading(table.REPLICA_STATE, (*key[:2], process.name, process.phase), 1.0)
    for labels, count in replicas.items():
        yield Reading(table.REPLICAS, labels, float(count))
    for model in status.models:
        yield from _conditions(
            model.conditions, table.ENDPOINT_CONDITION, table.ENDPOINT_CONDITION_REASON, (model.name,)
        )
    yield from _conditions(status.conditions, table.SERVER_CONDITION, table.SERVER_CONDITION_REASON, ())


def _of_control(control: ControlPlane) -> Iterator[Reading]:
    """Yield what control knows beside its status."""
    if (revision := control.source.revision) is not None:
        yield Reading(table.REVISION, (), float(revision))
    newest: dict[str, float] = {}
    for gateway in control.fleet.gateways.values():
        if gateway.report is not None:
            newest[gateway.name] = max(newest.get(gateway.name, 0.0), gateway.reported_at)
    for name, at in newest.items():
        yield Reading(table.REPORT_AGE, (name,), max(0.0, control.now() - at))
    yield Reading(table.BUILD_INFO, (__version__, platform.python_version(), platform.machine()), 1.0)


def _conditions(
    conditions: Iterable[Condition], statuses: Instrument, reasons: Instrument, labels: tuple[str, ...]
) -> Iterator[Reading]:
    """Yield a sample for every status that each condition may have, so that a rule on any of them always finds one."""
    for condition in conditions:
        of = (*labels, condition.type.value)
        for status in ConditionStatus:
            yield Reading(statuses, (*of, status.value.lower()), float(condition.status is status))
        if not condition.is_as_hoped:
            yield Reading(reasons, (*of, condition.reason.value), 1.0)
