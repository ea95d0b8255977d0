"""A server that meets a limit of the system: what fits is served, and what does not is told why."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator

import pytest

from limen.contracts.endpoint import EndpointSpec
from limen.serving.fleet.open_files import Room
from tests.services import plain_http
from tests.services.process import WAIT_S
from tests.services.registry import World, world_at

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="counts open files of a process")]
FILES = 68


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    with world_at(tmp_path, max_files=FILES) as found:
        yield found


def reason_of(world: World, name: str) -> str:
    until = time.monotonic() + WAIT_S
    while True:
        found = {c.type.value: c for c in world.management.endpoint(name).status.conditions}
        if found and found["Ready"].reason.value == "NoRoom":
            return found["Ready"].message
        assert time.monotonic() < until, found
        time.sleep(0.05)


def test_endpoints_that_fit_the_limit_of_open_files_are_served_and_the_next_is_told_why(world: World):
    fitting = Room(FILES).replicas - 1
    world.publish(alias="champion")
    for number in range(fitting):
        world.apply(f"e{number}", traffic={"champion": 100})
    world.management.apply_endpoint(EndpointSpec(name="late", model="score", traffic={"champion": 100}))
    assert f"may have {FILES} files open" in reason_of(world, "late")
    assert {world.answering(f"e{number}") for number in range(fitting)} == {"1"}

    # Callers who ask nothing, more than there are files, keep nobody out.
    address = world.server.http.base_url.host, world.server.http.base_url.port
    silent = [socket.create_connection(address) for _ in range(2 * FILES)]
    assert [world.answering("e0") for _ in range(5)] == ["1"] * 5
    text = plain_http.get(f"http://{world.server.announced['metrics']}/metrics", timeout=WAIT_S).text
    assert f'limen_process_max_fds{{process="gateway-1"}} {FILES}.0' in text
    for connection in silent:
        connection.close()

    # A full server can be brought another version, and one that has room again takes the endpoint in.
    world.publish(alias="champion")
    world.until_answering(2, "e0")
    world.management.remove_endpoint("e1")
    world.until_ready("late", 1)
    assert world.answering("late") == "2"
