"""The supervisor takes note of the ends of orphans, and leaves its own children to those who wait for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from limen.serving.supervision.orphans import reap

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


def ended_child() -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child


def test_what_has_ended_is_reaped_at_the_second_look():
    orphan = ended_child()
    seen = reap(set(), set())
    assert orphan.pid in seen
    assert orphan.pid not in reap(seen & {orphan.pid}, set())
    with pytest.raises(ChildProcessError):
        os.waitpid(orphan.pid, os.WNOHANG)
    orphan.returncode = 0  # nobody has to wait for it any more


def test_a_child_that_somebody_waits_for_keeps_its_status():
    child = ended_child()
    seen = reap(set(), set())
    assert child.wait() == 0
    reap(seen & {child.pid}, set())


def test_the_end_of_a_process_that_is_watched_is_left_to_its_keeper():
    child = ended_child()
    for _ in range(2):
        assert reap({child.pid}, {child.pid}) == set()
    assert child.wait() == 0
