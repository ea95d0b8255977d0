"""Serves packages from folders and archives, each as an endpoint of its own name: the source of `limen serve PACKAGE`.

Opens them when the server starts, and again when they are reloaded or, with `--watch`, have changed. Called by `serving.control.controlplane`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

from limen.contracts.errors import InvalidPackage, LimenError
from limen.contracts.snapshot import ServedEndpoint, ServedVersion
from limen.packaging.archive.intact import is_intact
from limen.packaging.archive.scan import Scan, scan
from limen.serving.fleet.history import Cause
from limen.serving.fleet.records import Aim, Opened, Phase, Version
from limen.serving.messages.lines import Failure, Refused, Reloaded, failure_of
from limen.serving.sources import opening
from limen.serving.sources.source import ControlPort

WATCH_S = 1.0
SERVED = Cause("local", "the server was started with it")
RELOADED = Cause("local", "`limen reload`")
LOADED = Cause("a caller", "the model repository extension")
CHANGED = Cause("limen", "its files have changed")
SAME_NAME_HINT = "Each package is served under its own name; change `name` in one model.yaml, or use separate servers."


class Folders:
    """Keeps a control plane's endpoints at what package folders and archives hold."""

    is_required = True
    """Whether a server without any one of its packages is not started."""
    is_numbered_here = True
    mends_in_place = False
    """Whether versions have the next number each time they are loaded."""
    revision: int | None = None
    """There is no registry."""
    problem = ""
    """Why the packages cannot be followed. What is wrong with one of them is its endpoint's."""

    def __init__(
        self, packages: tuple[str, ...], home: str, copies: Path, *, is_inline: bool, trust_code: bool
    ) -> None:
        """Prepare to open packages; `start` does.

        Args:
            packages: paths of folders and archives.
            home: where archives are unpacked.
            copies: where copies of folders are kept.
            is_inline: whether models live in the gateways.
            trust_code: whether packages may run code they bring.
        """
        self._packages = packages
        self._home = Path(home)
        self._copies = copies
        self._is_inline = is_inline
        self._trust_code = trust_code
        self._causes: dict[str, Cause] = {}
        self._scans: dict[str, Scan] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self, control: ControlPort) -> None:
        """Open every package and want it served.

        Raises:
            InvalidPackage: a package that cannot be served as it is, or two of one name.
        """
        opened: dict[str, Opened] = {}
        for path in self._packages:
            found = await self._open(path)
            if found.endpoint in opened:
                first = opened[found.endpoint].origin
                control.refuse(
                    Failure(f"two packages are named {found.endpoint}: {first} and {path}", hint=SAME_NAME_HINT)
                )
                return
            opened[found.endpoint] = found
        for found in opened.values():
            control.fleet.add(found, control.now())

    def resume(self, served: ServedEndpoint, version: ServedVersion) -> Opened:
        """Return a version that an earlier control process has verified."""
        for path in self._packages:
            self._scans.setdefault(path, scan(Path(path)))
        return opening.reopen(served, version)

    async def follow(self, control: ControlPort, *, is_watching: bool) -> None:
        """Load a package again when its files have changed and have been left alone since the last look."""
        seen: dict[str, Scan] = {}
        while is_watching:
            await asyncio.sleep(WATCH_S)
            for endpoint in tuple(control.fleet.endpoints.values()):
                if endpoint.is_paused:
                    continue
                path = endpoint.newest.opened.origin
                found = await asyncio.to_thread(scan, Path(path))
                known = self._scans.setdefault(path, found)
                if found and found != known and found == seen.get(path):
                    self._scans[path] = found
                    control.note(_shown(path, await self._reload(control, endpoint.name, "", CHANGED)))
                seen[path] = found

    async def reload(self, control: ControlPort, name: str, package: str) -> Reloaded | Refused:
        """Load a package as the next version of an endpoint, and return when it answers or has failed.

        Args:
            control: whose endpoint it is.
            name: the endpoint.
            package: a folder or an archive; the one it was loaded from when empty.
        """
        return await self._reload(control, name, package, RELOADED)

    async def _reload(self, control: ControlPort, name: str, package: str, cause: Cause) -> Reloaded | Refused:
        endpoint = control.fleet.endpoints[name]
        # One at a time, in the order they were asked for: the last one wins.
        async with self._locks[name]:
            begun = control.now()
            live = endpoint.find(Phase.LIVE)
            path = package or endpoint.newest.opened.origin
            try:
                opened = await self._open(path)
                if opened.endpoint != name:
                    opening.forget_copy(opened.root, self._copies)
                    raise InvalidPackage(f"{path}: the package is named {opened.endpoint} and not {name}")
            except LimenError as exc:
                endpoint.problem = exc.message
                return Refused(failure_of(exc))
            self._causes[name] = cause
            version = control.fleet.add(opened, control.now())
            await control.until_in_use(name, version)
            took = control.now() - begun
            return Reloaded(name, version.number, live.number if live else "", round(took, 3), version.reason)

    async def load(self, control: ControlPort, name: str) -> Reloaded | Refused:
        """Load the package of an endpoint as its next version, whether or not it has one in use."""
        return await self._reload(control, name, "", LOADED)

    async def unload(self, control: ControlPort, name: str) -> None:
        """Have an endpoint let everything go. What is being loaded comes into use first."""
        async with self._locks[name]:
            self._causes[name] = LOADED
            control.fleet.aim(name, Aim(), {}, control.now(), is_paused=True)
            control.wake_up()

    def cause_of(self, name: str) -> Cause:
        """Return why an endpoint is served as it is."""
        return self._causes.get(name, SERVED)

    def problem_of(self, name: str) -> str:
        """Return nothing: what is wrong with a package is said of its endpoint in the fleet."""
        return ""

    async def mend(self, version: Version) -> bool:
        """Copy or unpack a package again whose files have been lost, as long as what it was made from is the same."""
        opened = version.opened
        if await asyncio.to_thread(is_intact, Path(opened.root), opened.digest, afresh=True):
            return False
        found = await self._open(opened.origin)
        if found.digest != opened.digest:
            opening.forget_copy(found.root, self._copies)
            raise InvalidPackage(f"{opened.origin} has changed since it was loaded; reload it")
        version.opened = found
        return True

    async def _open(self, path: str) -> Opened:
        # Before it is read: a change that comes meanwhile must be seen as one.
        self._scans[path] = await asyncio.to_thread(scan, Path(path))
        return await asyncio.to_thread(
            opening.open_verified,
            Path(path),
            self._home,
            self._copies,
            is_inline=self._is_inline,
            trust_code=self._trust_code,
        )


def _shown(path: str, outcome: Reloaded | Refused) -> str:
    """Return what a reload came to, for whoever edits the package."""
    if isinstance(outcome, Refused):
        return f"{path} has changed and cannot be served: {outcome.failure.message}"
    if outcome.failure:
        kept = f"; version {outcome.replaced} keeps serving" if outcome.replaced else ""
        return f"{path} has changed, and version {outcome.version} failed: {outcome.failure}{kept}"
    return f"{path} has changed: version {outcome.version} of {outcome.model} answers"
