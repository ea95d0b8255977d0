"""Runs in the process that tests a package: sets limits, loads the model, and collects its answers.

Everything is taken away before the first byte of the package is read by a library. Nothing is given back: the process ends after
one package. Called by `limen.app.probe`; the other side is `publishing.probe`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from limen.contracts.contract import Example, Json
from limen.contracts.errors import InvalidPackage, LimenError
from limen.contracts.trial import Answer, Loaded
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.packaging.archive.package import Package
from limen.packaging.manifest.decoder import read_manifest
from limen.publishing.probe import Order, Refused, Said
from limen.runtime.batching.batcher import Batcher
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.predictor import Predictor
from limen.runtime.versions.independence import CHECK_S, measure
from limen.runtime.versions.warmup import answer_example
from limen.telemetry.logs import ABOUT_A_PACKAGE

LOG = logging.getLogger("limen.model")


async def try_out(
    order: Order, held: tuple[str, ...], examples: Sequence[dict[str, Json]], say: Callable[[Said], None]
) -> None:
    """Load the package, say so, and say the answer to each example as soon as it is there."""
    try:
        package = Package(Path(order.room.root), read_manifest(Path(order.room.root)), "", Path(order.room.root))
        begun = time.perf_counter()
        predictor = await _load(package, order)
    except LimenError as exc:
        say(Said(refused=Refused(exc.message, exc.reason.value)))
        return
    try:
        say(Said(loaded=Loaded(time.perf_counter() - begun, predictor.can_stream, held)))
        if predictor.can_stream:
            return
        contract = package.manifest.contract
        check, records = ContractCheck(contract), RecordCodec(contract)
        for inputs in examples:
            try:
                answer = await answer_example(contract, check, records, predictor, Example(inputs=inputs), "1")
            except LimenError as exc:
                say(Said(answer=Answer(problem=exc.message)))
            else:
                say(Said(answer=Answer(dict(answer))))
        budget_s = min(CHECK_S, (order.room.time_s or CHECK_S) / 20)
        say(Said(independence=await measure(check, records, predictor, "1", budget_s=budget_s)))
    finally:
        await predictor.close()


async def _load(package: Package, order: Order) -> Predictor:
    try:
        sink = await InlinePlacement(trust_code=order.trust_code).start(package, "1")
    except LimenError:
        raise
    except MemoryError as exc:
        raise InvalidPackage(
            f"the model needs more than its {order.room.memory_mb} MiB of memory to be loaded"
        ) from exc
    except Exception as exc:
        LOG.warning("the package could not be loaded", exc_info=exc, extra=ABOUT_A_PACKAGE)
        raise InvalidPackage("the package could not be loaded; see the log") from exc
    return Batcher(sink, package.manifest.contract.batching)
