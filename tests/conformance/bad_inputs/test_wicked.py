"""No body keeps a gateway from everybody else, or makes it take more memory than a few bodies."""

import gc
from pathlib import Path

import pytest

from tests.conformance.bad_inputs.wicked import SIZE, wicked
from tests.conformance.serving.expectations import refused
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.lag import limit_s
from tests.conformance.serving.wire import Answer

CASES = wicked()
STATUS = Path("/proc/self/status")
MIB = 1 << 20
TRIES = 3


def peak() -> int:
    """Return the most memory that this process has had since it was last forgotten."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def judged(answer: Answer) -> None:
    """Assert that a body was refused, or taken because there is nothing wrong with it but its size."""
    if answer.status != 200:
        refused(answer, (400, 413))


@pytest.mark.parametrize("name", CASES)
def test_a_wicked_body_is_judged_and_nobody_waits_for_it(gateway: Gateway, name: str):
    path, body, headers = CASES[name]
    gc.collect()
    gc.freeze()
    times = []
    # What a busy machine adds comes and goes; what one step of ours takes is there every time.
    for _ in range(TRIES):
        gateway.lag.take()
        judged(gateway.call("POST", path, body, headers))
        times.append(gateway.lag.take())
        if times[-1] < limit_s():
            return
    raise AssertionError(times)


@pytest.mark.skipif(not STATUS.exists(), reason="no /proc")
@pytest.mark.parametrize("name", CASES)
def test_a_wicked_body_takes_at_most_three_times_its_size(gateway: Gateway, name: str):
    path, body, headers = CASES[name]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    judged(gateway.call("POST", path, body, headers))
    # The caller in this process has the body, too, and sends a copy of it.
    assert peak() - before < (3 + 2) * SIZE + 8 * MIB
