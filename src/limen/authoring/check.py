"""`limen check`: everything that can be verified about a package before it is served.

The same loading, binding, warm-up and output checks that serving does, plus what serving does not pay for: the same answer
alone and in a batch, and the documents callers will read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from limen.authoring.disposable import run
from limen.contracts.catalogue import Verdict
from limen.contracts.contract import Example
from limen.contracts.errors import LimenError, Reason
from limen.contracts.inference import InferenceRequest
from limen.contracts.openapi.document import openapi
from limen.contracts.openapi.examples import example_record
from limen.contracts.openapi.model import ServedContract
from limen.contracts.proto.text import proto_text
from limen.contracts.validation.comparison import differences
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.packaging.archive.package import Package, open_package
from limen.packaging.formats.sniff import scan_folder
from limen.packaging.manifest.decoder import read_manifest
from limen.runtime.batching.batcher import Batcher
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.placement.trust import ensure_trusted
from limen.runtime.predictor import Predictor
from limen.runtime.versions.independence import CHECK_S, measure
from limen.runtime.versions.warmup import MADE_UP, answer_example, outcome_of

T = TypeVar("T")
PROCESS = "limen.authoring.check_process"
"""Loads the package in another process and reports what crashes there."""
_TIMED_RUNS = 200
_TIMED_S = 1.0
"""Bounds of the timing step: enough for a stable median, short for a slow model."""


class Step(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str = ""
    problems: tuple[str, ...] = ()
    is_note: bool = False
    """It passed, with a note for the owner."""
    reason: Reason | None = None
    """The catalogue reason for the failure, if there is one."""


class Task(msgspec.Struct, frozen=True):
    """What the process that loads the package is told."""

    root: str
    trust_code: bool


class Report(msgspec.Struct, frozen=True):
    """What a check found; later steps are left out when an earlier one makes them pointless."""

    steps: tuple[Step, ...]
    package: Package | None = None

    @property
    def ok(self) -> bool:
        """Whether every step passed."""
        return all(step.ok for step in self.steps)

    @property
    def refusal(self) -> Reason | None:
        """Why the package was refused as unsafe or untrusted, or None."""
        reasons = (step.reason for step in self.steps)
        return next((r for r in reasons if r in (Reason.UNSAFE_FORMAT, Reason.UNTRUSTED_CODE)), None)


async def check_package(path: Path, home: Path, *, trust_code: bool) -> Report:
    """Check a package folder or archive.

    Args:
        path: the package.
        home: where an archive is extracted to.
        trust_code: whether code in the package may run.
    """
    steps: list[Step] = []
    package = _step(steps, "manifest", lambda: open_package(path, home), _summary)
    if package is None:
        return Report(tuple(steps))
    if (
        _step(
            steps,
            "files",
            lambda: _scan(package),
            lambda _: "no pickles, no unexpected code, nothing outside the package",
        )
        is None
    ):
        return Report(tuple(steps), package)
    manifest = package.manifest
    try:
        ensure_trusted(manifest, trust_code=trust_code)
        ran = await asyncio.to_thread(
            run,
            PROCESS,
            Task(root=str(package.root), trust_code=trust_code),
            Step,
            root=package.root,
            brings_code=manifest.needs_trust,
            resources=manifest.serving.resources,
            environment=manifest.environment,
        )
    except LimenError as exc:
        steps.append(_failed("artifact", exc))
        return Report(tuple(steps), package)
    steps += ran.said
    if ran.problem is not None:
        steps.append(_failed("examples" if ran.said else "artifact", ran.problem))
    return Report(tuple(steps), package)


async def check_model(task: Task, say: Callable[[Step], None]) -> None:
    """Load a package in this process and say what is found, step by step. Called by `authoring.check_process`.

    Args:
        task: what to check.
        say: is told each step when it is done.
    """
    root = Path(task.root)
    package = Package(root, read_manifest(root), "", root)
    steps = _Told(say)
    try:
        predictor = await _load(package, trust_code=task.trust_code)
    except LimenError as exc:
        steps.append(_failed("artifact", exc))
        return
    try:
        what = "loads" if package.manifest.needs_trust else "loads and has the declared tensors"
        detail = f"{package.manifest.artifact} {what}, {package.manifest.backend} backend"
        steps.append(Step("artifact", ok=True, detail=detail))
        await _probe(package, predictor, steps)
    finally:
        await predictor.close()
    _step(steps, "documents", lambda: _documents(package), lambda _: "OpenAPI and .proto")


class _Told(list[Step]):
    """Steps that are told as they are added."""

    def __init__(self, say: Callable[[Step], None]) -> None:
        super().__init__()
        self._say = say

    def append(self, step: Step) -> None:
        super().append(step)
        self._say(step)


async def _load(package: Package, *, trust_code: bool) -> Predictor:
    sink = await InlinePlacement(trust_code=trust_code).start(package, "1")
    return Batcher(sink, package.manifest.contract.batching)


async def _probe(package: Package, predictor: Predictor, steps: list[Step]) -> None:
    contract = package.manifest.contract
    if predictor.can_stream:
        steps.append(Step("examples", ok=True, detail="a streaming model: its examples are not replayed"))
        return
    check, records = ContractCheck(contract), RecordCodec(contract)
    examples = contract.examples or (Example(name=MADE_UP, inputs=example_record(contract)),)
    problems: list[str] = []
    for i, example in enumerate(examples):
        label = example.name or f"examples[{i}]"
        try:
            answer = dict(await answer_example(contract, check, records, predictor, example, "1"))
        except LimenError as exc:
            problems.append(f"{label}: {exc.message}")
            continue
        problems.extend(f"{label}: {text}" for text in differences(example.outputs, answer, contract.tolerance))
    golden = sum(bool(e.outputs) for e in contract.examples)
    detail = f"{golden} of {len(examples)} with an answer to compare" if contract.examples else "none; made one up"
    if not golden:
        detail += "; --record saves the model's current answers"
    steps.append(Step("examples", ok=not problems, detail=detail, problems=tuple(problems)))
    if problems:
        return
    await _check_batch(steps, check, records, predictor)
    await _time(steps, examples[0], contract.name, check, records, predictor, contract.slo.p95_ms)


async def _check_batch(steps: list[Step], check: ContractCheck, records: RecordCodec, predictor: Predictor) -> None:
    """Rows must give in one run what each gives alone; if they do not, requests are kept apart, which is worth a note."""
    found = await measure(check, records, predictor, "1", budget_s=CHECK_S)
    if found.breaks:
        steps.append(Step("batch", ok=False, problems=(found.text,)))
        return
    steps.append(Step("batch", ok=True, detail=found.text, is_note=found.verdict is not Verdict.PASS))


async def _time(
    steps: list[Step],
    example: Example,
    name: str,
    check: ContractCheck,
    records: RecordCodec,
    predictor: Predictor,
    p95_ms: float | None,
) -> None:
    """Time one row. Told, not judged: this machine is not the one that will serve."""
    request = InferenceRequest(name, records.tensors([example.inputs]), "1", rows=1, checked=check)
    times: list[float] = []
    end = time.perf_counter() + _TIMED_S
    while len(times) < _TIMED_RUNS and time.perf_counter() < end:
        started = time.perf_counter()
        await outcome_of(predictor, request)
        times.append(time.perf_counter() - started)
    times.sort()
    p50, p95 = times[len(times) // 2] * 1e3, times[int(len(times) * 0.95)] * 1e3
    promise = f" (promised: {p95_ms:g} ms)" if p95_ms is not None else ""
    steps.append(Step("latency", ok=True, detail=f"one row p50 {p50:.3f} ms, p95 {p95:.3f} ms{promise}, here"))


def _documents(package: Package) -> bool:
    served = ServedContract(contract=package.manifest.contract, version="1", platform="", can_stream=False)
    openapi([served], server_version="0", title="check")
    proto_text(package.manifest.contract)
    return True


def _scan(package: Package) -> bool:
    scan_folder(package.root, package.manifest)
    return True


def _summary(package: Package) -> str:
    contract = package.manifest.contract
    counts = ((contract.inputs, "input"), (contract.outputs, "output"), (contract.examples, "example"))
    return f"{contract.name}: " + ", ".join(f"{len(found)} {noun}{'s'[: len(found) != 1]}" for found, noun in counts)


def _step(steps: list[Step], name: str, work: Callable[[], T], detail: Callable[[T], str]) -> T | None:
    try:
        result = work()
    except LimenError as exc:
        steps.append(_failed(name, exc))
        return None
    steps.append(Step(name, ok=True, detail=detail(result)))
    return result


def _failed(name: str, exc: LimenError) -> Step:
    problems = tuple(str(v) for v in exc.violations) or (exc.message,)
    return Step(name, ok=False, problems=problems, reason=exc.reason)
