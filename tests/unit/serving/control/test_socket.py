"""The control socket is there for as long as control is."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from limen.serving.control import socket as module
from limen.serving.control.socket import ControlSocket


class Control:
    """Nothing is asked of it here."""


async def until_it_listens(path: Path) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(path)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.write_eof()
                await reader.read()
                writer.close()
                await writer.wait_closed()
                return


async def test_a_control_socket_that_is_lost_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    path = tmp_path / "folder" / "control"
    path.parent.mkdir()
    async with ControlSocket(cast("Any", Control())).open(str(path)):
        await until_it_listens(path)
        path.unlink()
        path.parent.rmdir()
        await asyncio.sleep(0.05)  # it looks, and finds no folder either
        path.parent.mkdir()
        await until_it_listens(path)
        assert path.stat().st_mode & 0o777 == 0o600
