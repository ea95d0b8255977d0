"""Shared memory: pieces never overlap, and what is sealed stays."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.runtime.placement.process.wire.arena import HEAD, Arena, Ring, StatusPage, create_memory, is_fixed, seal

SIZE = 4096
linux = pytest.mark.skipif(sys.platform != "linux", reason="no seals")


@given(st.lists(st.tuples(st.integers(1, 1500), st.integers(0, 5)), max_size=60))
def test_pieces_in_use_never_overlap_and_never_leave_the_arena(steps):
    ring, used = Ring(SIZE), []
    for size, frees in steps:
        region = ring.take(size)
        if region is not None:
            assert region.start >= HEAD
            assert region.start + size <= region.end <= SIZE
            assert all(region.end <= other.start or other.end <= region.start for other in used)
            used.append(region)
        for _ in range(min(frees, len(used))):
            # Not always the oldest first: a model may keep its inputs.
            ring.free(used.pop(size % len(used)))
    for region in used:
        ring.free(region)
    assert ring.is_empty
    assert ring.take(SIZE - HEAD).start == HEAD


def test_an_empty_ring_uses_the_same_pages_again():
    ring = Ring(SIZE)
    for _ in range(5):
        region = ring.take(1000)
        assert region.start == HEAD
        ring.free(region)


@linux
def test_the_other_side_can_neither_shrink_an_arena_nor_write_what_it_should_read():
    descriptor = create_memory(SIZE)
    writer = Arena(descriptor, SIZE)
    assert not is_fixed(descriptor, SIZE)
    seal(descriptor, against_writing=True)
    assert is_fixed(descriptor, SIZE)
    assert not is_fixed(descriptor, SIZE * 2)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    with pytest.raises(PermissionError):
        Arena(descriptor, SIZE)
    reader = Arena(descriptor, SIZE, is_reader=True)
    writer.map[100:104] = b"here"
    assert reader.map[100:104] == b"here"
    os.close(descriptor)


def test_a_reader_says_how_far_it_is():
    descriptor = create_memory(SIZE)
    writer, reader = Arena(descriptor, SIZE), Arena(descriptor, SIZE)
    reader.taken = 3
    assert writer.taken == 3
    os.close(descriptor)


def test_a_status_page_tells_what_is_in_hand():
    descriptor = create_memory(StatusPage.SIZE)
    replica, gateway = StatusPage(descriptor, is_reader=False), StatusPage(descriptor, is_reader=True)
    os.close(descriptor)
    assert gateway.read() == (0, 0, 0)
    replica.begin(3, 2**32 - 1)
    assert gateway.read() == (3, 2**32 - 1, 1)
    replica.end()
    assert gateway.read() == (0, 0, 2)
