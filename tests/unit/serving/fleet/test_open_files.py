"""How many replicas a limit of open files leaves room for."""

from __future__ import annotations

import os
import resource

import pytest

from limen.runtime.sandbox.open_files import file_limit, limit_of, open_files
from limen.serving.fleet.open_files import AMPLE, Room


def test_three_hundred_replicas_fit_under_the_common_limit():
    assert Room(1024, 1).replicas >= 300
    assert Room(1024, 4).replicas >= 300


def test_a_small_limit_leaves_room_for_some_and_a_tiny_one_for_none():
    assert 8 <= Room(80, 1).replicas <= 20
    assert Room(48, 1).replicas == 0
    assert AMPLE.replicas > 10_000


@pytest.mark.parametrize("limit", [64, 80, 128, 1024, 65_536])
@pytest.mark.parametrize("gateways", [1, 2, 8])
def test_what_replicas_and_callers_take_is_never_more_than_the_limit(limit, gateways):
    room = Room(limit, gateways)
    assert 3 * (room.replicas + 2 * gateways + 1) <= limit or not room.replicas
    assert room.replicas + 16 <= limit
    assert Room(limit + 64, gateways).replicas >= room.replicas


def test_the_files_of_a_process_are_counted_with_their_limit():
    if not open_files(os.getpid()):
        pytest.skip("the system does not tell")
    before = open_files(os.getpid())
    descriptor = os.dup(0)
    try:
        assert open_files(os.getpid()) == before + 1
    finally:
        os.close(descriptor)
    assert limit_of(os.getpid()) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert file_limit() <= limit_of(os.getpid())


def test_a_process_that_is_gone_has_none():
    assert (open_files(1 << 30), limit_of(1 << 30)) == (0, 0)
