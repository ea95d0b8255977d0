"""The second half of the demo: new versions of a model whose callers must not notice.

While somebody asks the endpoint without a pause, a version that breaks nobody is published, called beside the old one, and put in its
place; one that would break callers is refused, and then served beside them; and the first version comes back.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Self

import ask
import onnxruntime as ort
import pandas as pd
import train
import versions
from stage import Failed, Server, append, run, say

SWITCH_TIMEOUT_S = 30.0
PAUSE_S = 0.002
MAX_DIFFERENCE = 1e-6
HERE = Path(__file__).parent


class Caller:
    """Somebody who asks the endpoint for one loan over and over, knows nothing of versions, and holds every answer against the model."""

    def __init__(self, address: str, record: ask.Record) -> None:
        self.record = record
        self.expected: dict[str, float] = {}
        """What the file of each version gives for the loan when it is called directly."""
        self.answers: Counter[str] = Counter()
        """By version."""
        self.failures: list[str] = []
        self._client = ask.Records(address)
        self._latest = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def until(self, version: str) -> None:
        """Wait until a version answers."""
        deadline = time.monotonic() + SWITCH_TIMEOUT_S
        while self._latest != version:
            if time.monotonic() > deadline:
                raise Failed(f"version {version} does not answer; {'; '.join(self.failures[-1:])}")
            time.sleep(PAUSE_S)

    def _ask_on(self) -> None:
        while not self._over.wait(PAUSE_S):
            try:
                answer = self._client.ask([self.record])
                if abs(float(answer.probability[0]) - self.expected[answer.version]) > MAX_DIFFERENCE:
                    raise ValueError(f"version {answer.version} gave another answer than its file")
            except Exception as exc:  # noqa: BLE001  whatever it was, the caller has no answer
                self.failures.append(f"{type(exc).__name__}: {exc}")
                self._client.close()
            else:
                self.answers[answer.version] += 1
                self._latest = answer.version


def show(server: Server, home: Path, client: ModuleType) -> bool:
    """Tell the second half; return whether every request was answered, and as the model does."""
    record = json.loads((home / "credit" / "examples.json").read_text())[0]["inputs"]
    caller = Caller(server.http, record)
    caller.expected["1"] = direct(home / "credit", record)
    with caller:
        caller.until("1")
        is_right = show_second(server, home, client, caller)
        show_switch(caller, "2", "Let callers have version 2: the alias moves, the endpoint follows, nothing restarts")
        is_right &= show_third(server, home, caller)
        show_switch(caller, "1", "Go back, with one command")
    by_version = ", ".join(f"{count:,} by version {version}" for version, count in sorted(caller.answers.items()))
    print(f"   Somebody asked all the time: {caller.answers.total():,} requests, {by_version}; {failed(caller)}")
    return is_right and not caller.failures


def show_second(server: Server, home: Path, client: ModuleType, caller: Caller) -> bool:
    """Publish a version that breaks nobody, and call it beside the one that callers get."""
    package = home / "credit-2"
    say("Train a second version on one field more, which callers may leave out, and publish it")
    versions.write_second(package)
    run("publish", str(package), "--alias", "challenger")
    print(
        "   Another model answers the examples of version 1 a little otherwise: that is told and kept, and refuses nothing."
    )
    run("diff", "credit/1", "credit/2")
    caller.expected["2"] = direct(package, caller.record)

    say("Keep both ready, and call the new one by number and alias while callers still get the old one")
    append("ready: [1, challenger]", home / "endpoint.yaml")
    run("endpoint", "apply", str(home / "endpoint.yaml"), "--yes")
    record, first, second = caller.record, caller.expected["1"], caller.expected["2"]
    more = record | {"installment_limit": 250_000}
    http, grpc = server.http, server.grpc
    return show_answers(
        [
            ("credit", lambda: ask.Records(http), record, first),
            ("credit/versions/2", lambda: ask.OipJson(http, "credit/versions/2"), record, second),
            ("credit@challenger", lambda: ask.Grpc(grpc, "credit@challenger"), record, second),
            ("credit, version 2", lambda: ask.Typed(grpc, client, "2"), record, second),
            ("… with the new field", lambda: ask.Records(http, "credit@challenger"), more, direct(package, more)),
        ]
    )


def show_switch(caller: Caller, version: str, text: str) -> None:
    """Move the alias, and wait until the caller gets the version."""
    say(text)
    before = caller.answers.total()
    run("alias", "set", "credit", "champion", version)
    started = time.perf_counter()
    caller.until(version)
    took = time.perf_counter() - started
    count = f"{caller.answers.total() - before:,} requests meanwhile, {failed(caller)}"
    print(f"   {took * 1e3:.0f} ms later credit answers with version {version}; {count}")


def show_third(server: Server, home: Path, caller: Caller) -> bool:
    """Publish a version that would break callers: refused as one of theirs, and served beside them as another major."""
    package = home / "credit-3"
    say("Train a third one, without what people say about their employment: published, it would break callers")
    report = versions.write_third(package)
    print(f"   AUC {report.auc:.3f} without it")
    run("publish", str(package), status=1)

    say("As major 2 it is a line of its own, with an endpoint of its own; nobody has to move")
    append("major: 2", package / "model.yaml")
    run("publish", str(package), "--alias", "champion-v2", shown=1)
    shutil.copyfile(HERE / "endpoint-v2.yaml", home / "endpoint-v2.yaml")
    run("endpoint", "apply", str(home / "endpoint-v2.yaml"), "--yes", shown=-1)
    record = json.loads((package / "examples.json").read_text())[0]["inputs"]
    return show_answers(
        [
            ("credit", lambda: ask.Records(server.http), caller.record, caller.expected["2"]),
            ("credit.v2", lambda: ask.Records(server.http, "credit.v2"), record, direct(package, record)),
        ]
    )


def show_answers(calls: list[tuple[str, Callable[[], ask.Client], ask.Record, float]]) -> bool:
    """Ask each for a loan, print a table, and return whether every answer is the one expected."""
    print(f"   {'asked for':<22}{'over':<14}{'version':>8}{'probability':>14}")
    is_right = True
    for asked, connect, record, expected in calls:
        with contextlib.closing(connect()) as client:
            answer = client.ask([record])
        found = float(answer.probability[0])
        is_same = abs(found - expected) <= MAX_DIFFERENCE
        is_right &= is_same
        print(f"   {asked:<22}{client.name:<14}{answer.version:>8}{found:>14.4f}" + ("" if is_same else "  DIFFERENT"))
    return is_right


def direct(package: Path, record: ask.Record) -> float:
    """Return the probability that the file of a package gives for a loan; what a caller may leave out has its default."""
    session = ort.InferenceSession(package / "model.onnx", providers=["CPUExecutionProvider"])
    width = session.get_inputs()[0].shape[1]
    loan = pd.DataFrame([record])
    if len(train.numbers(loan)) < width:
        loan["installment_limit"] = versions.NEW_FIELD["default"]
    return float(train.answer(session, loan)[0][0])


def failed(caller: Caller) -> str:
    """Return how many requests had no right answer, in words."""
    return f"{len(caller.failures)} FAILED, such as {caller.failures[0]}" if caller.failures else "none failed"
