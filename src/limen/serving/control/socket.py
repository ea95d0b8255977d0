"""The control socket: gateways and commands connect through one Unix socket that only its owner can open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from limen.serving.control.controlplane import ControlPlane
from limen.serving.control.repository import ModelRepository
from limen.serving.messages.lines import (
    MAX_LINE_BYTES,
    AskReload,
    AskStatus,
    FromClient,
    Hello,
    Operation,
    Poison,
    Report,
    Wake,
    line,
)

LOG = logging.getLogger("limen.control")
LOOK_S = 1.0
"""How often the socket is looked at."""


class ControlSocket:
    """Lets gateways and commands talk to a control plane."""

    def __init__(self, control: ControlPlane) -> None:
        """Prepare to listen; `open` does."""
        self._control = control
        self._repository = ModelRepository(control)
        self._gateways: dict[int, asyncio.StreamWriter] = {}
        control.push = self._push

    @contextlib.asynccontextmanager
    async def open(self, path: str) -> AsyncIterator[None]:
        """Listen while the block runs. A socket that an earlier control process has left is replaced; one that is lost is made again."""
        self._server = await self._listen(path)
        keeping = asyncio.create_task(self._keep(path))
        try:
            yield
        finally:
            keeping.cancel()
            self._server.close()
            for writer in self._gateways.values():
                writer.close()

    async def _listen(self, path: str) -> asyncio.Server:
        Path(path).unlink(missing_ok=True)  # noqa: ASYNC240  seldom in a process's life
        server = await asyncio.start_unix_server(self._serve, path, limit=MAX_LINE_BYTES)
        Path(path).chmod(0o600)  # noqa: ASYNC240  as above
        return server

    async def _keep(self, path: str) -> None:
        """Listen anew when somebody has removed the socket, such as a program that clears temporary files."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not os.path.lexists(path):  # noqa: ASYNC240  one system call
                with contextlib.suppress(OSError):
                    server = await self._listen(path)
                    self._server.close()
                    self._server = server
                    LOG.error("the control socket was lost and has been recreated")

    def _push(self, data: bytes) -> None:
        for writer in self._gateways.values():
            writer.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end; a client that talks nonsense is left alone."""
        try:
            message = await _read(reader)
            if isinstance(message, Hello):
                await self._serve_gateway(message, reader, writer)
            elif isinstance(message, AskStatus):
                writer.write(line(self._control.status()))
            elif isinstance(message, AskReload):
                writer.write(line(await self._control.reload(message.model, message.package)))
            elif isinstance(message, Operation):
                writer.write(line(await self._repository.answer(message)))
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        except (ConnectionError, ValueError) as exc:  # msgspec's errors are ValueErrors
            LOG.info("a connection to control ended early: %s", exc)
        finally:
            writer.close()

    async def _serve_gateway(self, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        control, fleet = self._control, self._control.fleet
        self._gateways[hello.pid] = writer
        fleet.link(hello.name, hello.pid)
        try:
            writer.write(control.apply_line())
            while (message := await _read(reader)) is not None:
                if isinstance(message, Report):
                    fleet.take_report(hello.pid, message, control.now())
                elif isinstance(message, Wake):
                    fleet.wake(message.model, message.version)
                elif isinstance(message, Poison):
                    fleet.quarantine(message.fingerprint)
                control.wake_up()
        finally:
            if self._gateways.get(hello.pid) is writer:
                del self._gateways[hello.pid]
                fleet.unlink(hello.pid)
                control.wake_up()


async def _read(reader: asyncio.StreamReader) -> FromClient | None:
    said = await reader.readline()
    return msgspec.json.decode(said, type=FromClient) if said else None
