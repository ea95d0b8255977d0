"""Wires up the management API: in the control process of a server, or in a command's process when no server is running."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limen.admin.app import management_api
from limen.admin.services import Services
from limen.admin.workers import Workers
from limen.app.management_server import GRACE_S, ManagementServer
from limen.app.process import allowed_hosts
from limen.management.catalogue import Catalogue
from limen.management.stores import Stores, open_registry, utc_now
from limen.packaging.signing.trust import Trust
from limen.publishing.probe import Probe
from limen.publishing.publisher import Publisher
from limen.publishing.verification import Verification
from limen.runtime.sandbox.child import python
from limen.settings import Settings

if TYPE_CHECKING:
    from limen.app.live_settings import LiveSettings
    from limen.contracts.conditions import Condition
    from limen.contracts.endpoint import EndpointStatus
    from limen.serving.control.controlplane import ControlPlane
    from limen.serving.sources.reconciler import Reconciler


def management_here(settings: Settings, *, create: bool = True) -> tuple[Any, Callable[[], None]]:
    """Return the application over the registry of this home, for a command; no server runs.

    Args:
        settings: where the registry is.
        create: make one when there is none.

    Returns:
        The ASGI application, and what closes the registry.

    Raises:
        NotFound: there is none, and none is to be made.
        LimenError: the registry cannot be opened.
    """
    stores = open_registry(settings.registry, create=create)

    async def nothing() -> None:
        return

    services = Services(
        stores=lambda: stores,
        publisher=_publisher_of(lambda: settings, settings.registry.home),
        staging=settings.registry.home / "staging",
        max_archive_bytes=lambda: settings.publish.max_archive_mb << 20,
        publishing=_workers(settings),
        changed=lambda: None,
        statuses=dict,
        server=lambda: None,
        conditions=tuple,
        reload=nothing,
    )
    return management_api(services, is_local=True), stores.close


async def serve_management(
    live: LiveSettings, home: Path, control: ControlPlane, reconciler: Reconciler, listener: socket.socket
) -> None:
    """Serve the management API of a server until cancelled."""
    settings = live.now

    def statuses() -> Mapping[str, EndpointStatus]:
        return control.endpoint_statuses(reconciler.observed())

    def conditions() -> tuple[Condition, ...]:
        control.conditions.look(control.now())
        return control.conditions.server

    services = Services(
        stores=reconciler.opened,
        publisher=_publisher_of(lambda: live.now, home),
        staging=home / "staging",
        max_archive_bytes=lambda: live.now.publish.max_archive_mb << 20,
        publishing=_workers(settings),
        changed=reconciler.poke_soon,
        statuses=statuses,
        server=lambda: msgspec.to_builtins(control.status()),
        conditions=conditions,
        reload=lambda: reconciler.look_again(control),
    )
    server = ManagementServer(management_api(services, allowed_hosts(settings.admin.host)), settings.admin)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await asyncio.wait([serving], timeout=GRACE_S + 1)


def _workers(settings: Settings) -> Workers:
    return Workers(settings.publish.at_once, "publish", "other packages are being tested")


def _publisher_of(current: Callable[[], Settings], home: Path) -> Callable[[Stores], Publisher]:
    def publisher(stores: Stores) -> Publisher:
        settings = current()
        verification = Verification(
            Probe(python("limen.app.probe"), settings.publish), Trust.of(settings.trust), settings.publish
        )
        return Publisher(
            stores.registry,
            stores.database,
            stores.blobs,
            verification,
            Catalogue(stores).point,
            staging=home / "staging",
            clock=utc_now,
        )

    return publisher
