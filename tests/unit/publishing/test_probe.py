"""What a process says that tries packages out is read with suspicion: a package may have taken it over."""

import sys

import pytest

from limen.contracts.errors import InvalidPackage, Reason, Unavailable
from limen.packaging.archive.package import open_package
from limen.publishing import probe
from limen.publishing.config import PublishConfig
from limen.publishing.probe import Probe
from tests.services.packages import write_score

LOADED = '{"loaded": {"load_s": 0.1, "can_stream": false, "isolation": []}}'
ANSWER = '{"answer": {"outputs": {"score": 2.0}}}'


@pytest.fixture
def package(tmp_path):
    return open_package(write_score(tmp_path / "score"), tmp_path / "cache")


def run(package, program, *, examples=1, **config):
    """Ask a process that runs another program than ours."""
    command = (sys.executable, "-c", f"import os, signal, sys, time\nsys.stdin.buffer.readline()\n{program}")
    config = PublishConfig(**{"probe_time_s": 60, **config})
    return Probe(command, config).run(package, [{"amount": 3, "age": 2}] * examples, trust_code=False)


def refusal(package, program, **more):
    with pytest.raises(InvalidPackage) as caught:
        run(package, program, **more)
    return caught.value.reason, caught.value.message


def test_what_it_says_in_order_is_believed(package):
    found = run(package, f"print('{LOADED}'); print('{ANSWER}')")
    assert (found.loaded.load_s, [a.outputs for a in found.answers]) == (0.1, [{"score": 2.0}])


def test_why_a_package_cannot_be_loaded_is_passed_on(package):
    said = '{"refused": {"message": "it is broken", "reason": "UNSAFE_FORMAT"}}'
    assert refusal(package, f"print('{said}')") == (Reason.UNSAFE_FORMAT, "it is broken")


@pytest.mark.parametrize(
    "said",
    ["not JSON", "[1]", '{"loaded": 1}', '{"refused": {"message": "x", "reason": "NO_SUCH_REASON"}}', "\\xff"],
)
def test_what_nobody_understands_is_rejected(package, said):
    reason, message = refusal(package, f"sys.stdout.buffer.write({said.encode()!r})")
    assert (reason, "sent an invalid message" in message) == (Reason.REJECTED, True)


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("pass", "ended while loading the model"),
        (f"print('{LOADED}')", "ended while answering example 1"),
        (f"print('{LOADED}'); print('{ANSWER}'); print('{ANSWER}')", "sent an invalid message"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "it crashed (SIGSEGV)"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "it took more than 60 s of processor time"),
    ],
)
def test_an_end_that_came_too_early_or_too_late_is_rejected(package, program, text):
    reason, message = refusal(package, program)
    assert (reason, text in message) == (Reason.REJECTED, True), message


def test_an_answer_without_end_is_cut_off(package, monkeypatch):
    monkeypatch.setattr(probe, "MAX_SAID_BYTES", 1 << 20)
    assert "too large" in refusal(package, "while True: sys.stdout.write('x' * 65536)")[1]


def test_a_process_that_says_nothing_is_given_up(package):
    assert refusal(package, "time.sleep(600)", probe_time_s=1)[1].startswith("the model took more than 1 s")


def test_a_process_that_cannot_be_started_is_no_fault_of_the_package(package):
    with pytest.raises(Unavailable):
        Probe(("/absent/program",), PublishConfig()).run(package, [], trust_code=False)
