"""Packages that are watched, unloaded and loaded again."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from limen.contracts.serving import Serving
from limen.packaging.archive.scan import Scan
from limen.serving.fleet.fleet import Fleet
from limen.serving.fleet.launching import Launcher
from limen.serving.fleet.records import Opened
from limen.serving.messages.lines import ModelSummary
from limen.serving.sources import folders
from limen.serving.sources.folders import Folders


def opened(name: str) -> Opened:
    return Opened(name, f"/packages/{name}", "d", f"./{name}", Serving(), ModelSummary(name, "onnx", 1, 1))


async def test_a_package_that_is_unloaded_is_watched_no_more(tmp_path, monkeypatch):
    """Else an edit would bring it back."""
    fleet = Fleet((), Launcher(cast("Any", None), "/sockets/"))
    for name in ("kept", "gone"):
        fleet.add(opened(name), 0.0)
    woken: list[bool] = []
    control = cast("Any", SimpleNamespace(fleet=fleet, now=lambda: 0.0, wake_up=lambda: woken.append(True)))
    source = Folders((), str(tmp_path), tmp_path, is_inline=False, trust_code=False)
    await source.unload(control, "gone")
    assert woken == [True]
    assert fleet.endpoints["gone"].is_paused

    looked_at: list[str] = []
    has_looked = asyncio.Event()

    def scan(path: object) -> Scan:
        looked_at.append(str(path))
        if len(looked_at) == 3:
            loop.call_soon_threadsafe(has_looked.set)
        return ()

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(folders, "WATCH_S", 0.0)
    monkeypatch.setattr(folders, "scan", scan)
    watching = asyncio.create_task(source.follow(control, is_watching=True))
    async with asyncio.timeout(30):
        await has_looked.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert set(looked_at) == {"kept"}
