"""Replicas of these tests are forked from one template, as those of a server are; tests that say so are run with programs, too."""

import ctypes
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from limen.runtime.placement.process import own
from limen.runtime.placement.process.wire.start import TEMPLATE_COMMAND, TemplateStart
from limen.runtime.sandbox.child import model_environment
from limen.runtime.sandbox.forking import Template, adopt_orphans, can_fork

_ADOPT_ORPHANS = 36


@pytest.fixture(scope="session")
def template_process() -> Iterator[tuple[Any, socket.socket]]:
    """A template that outlives the event loops of single tests."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            TEMPLATE_COMMAND, stdin=theirs, stdout=subprocess.PIPE, env=model_environment(1), start_new_session=True
        )
        theirs.close()
        ours.sendall(msgspec.json.encode(TemplateStart("python")) + b"\n")
        assert process.stdout is not None
        assert process.stdout.readline() == b'{"ready":{}}\n'
        ours.setblocking(False)
        yield process, ours
    process.stdout.close()
    assert process.wait(60) == 0


@pytest.fixture(autouse=True)
def started(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """How replicas are started: as forks where that is possible, or as programs."""
    how = getattr(request, "param", "fork")
    if how == "exec" or not can_fork():
        yield "exec"
        return
    # One for each event loop.
    template = Template(*request.getfixturevalue("template_process"))

    async def start(_: object, environment: dict[str, str]) -> object:
        return await template.fork("limen replica", environment)

    monkeypatch.setattr(own, "start_async", start)
    adopt_orphans()
    yield "fork"
    ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 0, 0, 0, 0)
