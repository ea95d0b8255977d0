"""Memory that a burst has left."""

from __future__ import annotations

import sys

import pytest

from limen.runtime.sandbox.allocator import BURST_BYTES, QUIET_S, Bursts, keep_buffers, resident_bytes, trim

MIB = 1 << 20


class Process:
    size = 100 * MIB

    def __call__(self) -> int:
        return self.size


def test_memory_is_given_back_when_a_burst_is_over_and_it_has_been_quiet():
    process = Process()
    bursts = Bursts(process)
    process.size += BURST_BYTES + MIB
    assert not bursts.are_over(QUIET_S, is_busy=True)
    assert not bursts.are_over(QUIET_S / 2, is_busy=False)
    assert bursts.are_over(QUIET_S / 2, is_busy=False)


def test_what_cannot_be_given_back_is_not_tried_again():
    process = Process()
    bursts = Bursts(process)
    process.size += 2 * BURST_BYTES
    assert bursts.are_over(QUIET_S, is_busy=False)
    bursts.settle()
    assert not bursts.are_over(QUIET_S, is_busy=False)
    process.size += BURST_BYTES + MIB
    assert bursts.are_over(QUIET_S, is_busy=False)


def test_a_process_that_has_shrunk_has_a_burst_from_there():
    process = Process()
    bursts = Bursts(process)
    process.size -= 50 * MIB
    assert not bursts.are_over(QUIET_S, is_busy=False)
    process.size += BURST_BYTES + MIB
    assert bursts.are_over(QUIET_S, is_busy=False)


@pytest.mark.skipif(sys.platform != "linux" or not resident_bytes(), reason="glibc on Linux")
def test_what_is_freed_goes_back_to_the_system():
    import subprocess

    program = """
from limen.runtime.sandbox.allocator import keep_buffers, resident_bytes, trim
keep_buffers()
pieces = [bytes(256 << 10) for _ in range(400)]
del pieces
before = resident_bytes()
trim()
print(before - resident_bytes() >> 20)
"""
    given = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(given.stdout) > 50


def test_it_does_no_harm_where_there_is_no_such_allocator(monkeypatch: pytest.MonkeyPatch):
    def none(_: object) -> object:
        raise OSError

    monkeypatch.setattr("ctypes.CDLL", none)
    keep_buffers(100)
    trim()
