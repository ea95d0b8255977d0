"""The settings of processes, composed from the sections that packages own.

Each setting comes from the command line, else the environment, else the settings file, else its default. An unknown key or a value
that breaks its rule is an error that names the key and where it came from, never the value. A running server follows the settings
that are live (`is_live`) and says which of the others need a restart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from limen.admin.config import AdminConfig
from limen.contracts.contract import Json
from limen.contracts.errors import InvalidArgument, Reason, Violation
from limen.gateway.engine.config import HttpLimits
from limen.gateway.grpc.config import GrpcConfig
from limen.packaging.signing.config import TrustConfig
from limen.publishing.config import PublishConfig
from limen.settings.serve import ServeConfig
from limen.settings.sources import Given, Sources, variable_of
from limen.settings.values import checked, plain, shown
from limen.storage.config import StorageConfig
from limen.telemetry.config import LogConfig
from limen.traffic.config import AdmissionConfig

__all__ = [
    "FLAGS",
    "KINDS",
    "SECTIONS",
    "Entry",
    "Settings",
    "changed_keys",
    "find_home",
    "is_live",
    "load_settings",
    "trusts_code",
    "variable_of",
]

SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "serve": ServeConfig,
    "http": HttpLimits,
    "grpc": GrpcConfig,
    "admission": AdmissionConfig,
    "registry": StorageConfig,
    "trust": TrustConfig,
    "publish": PublishConfig,
    "admin": AdminConfig,
    "log": LogConfig,
}
"""The tables of the settings file."""
KINDS: Final[dict[str, Any]] = {
    f"{section}.{field.name}": field.type
    for section, kind in SECTIONS.items()
    for field in msgspec.structs.fields(kind)
}
"""The type of every setting, by its key."""
FLAGS: Final = {
    "serve.packages": "PACKAGE",
    "serve.host": "--host",
    "serve.http_port": "--http-port",
    "serve.grpc_port": "--grpc-port",
    "serve.metrics_port": "--metrics-port",
    "serve.workers": "--workers",
    "serve.placement": "--placement",
    "serve.model_control": "--model-control",
    "serve.watch": "--watch",
    "serve.announce": "--announce",
    "serve.access_log": "--access-log",
    "grpc.engine": "--grpc-engine",
    "registry.home": "--home",
    "trust.code": "--trust-code",
    "admin.port": "--admin-port",
    "log.format": "--log-format",
    "log.level": "--log-level",
}
"""The flag of `limen serve` that says the same as a setting."""
_LIVE_SECTIONS: Final = frozenset({"http", "admission", "publish"})
_LIVE: Final = frozenset({"serve.access_log"})
_STATIC: Final = frozenset({"http.drain_s", "publish.at_once"})
"""Settings of live sections that are static all the same."""


class Entry(msgspec.Struct, frozen=True):
    """One setting as `limen config show` shows it."""

    key: str
    """Section and name, such as `trust.keys`."""
    value: Json
    """Passwords are masked."""
    origin: str
    """`FILE:LINE`, the environment variable, the flag, or `default`."""
    live: bool
    """Whether a running server follows it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    serve: ServeConfig = ServeConfig()
    http: HttpLimits = HttpLimits()
    grpc: GrpcConfig = GrpcConfig()
    admission: AdmissionConfig = AdmissionConfig()
    registry: StorageConfig = StorageConfig()
    trust: TrustConfig = TrustConfig()
    publish: PublishConfig = PublishConfig()
    admin: AdminConfig = AdminConfig()
    log: LogConfig = LogConfig()
    sources: Sources = Sources()
    """What they were read from."""
    entries: tuple[Entry, ...] = ()
    """Each of them with where it came from."""

    def value(self, key: str) -> Any:
        """Return the value of a setting."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)

    def following(self, newer: Settings) -> Settings:
        """Return these settings with the live ones of newer settings."""
        sections: dict[str, msgspec.Struct] = {}
        for key in KINDS:
            section, _, name = key.partition(".")
            if is_live(key):
                before = sections.get(section, getattr(self, section))
                sections[section] = msgspec.structs.replace(before, **{name: newer.value(key)})
        return msgspec.structs.replace(self, **sections)


def load_settings(
    config: Path | None = None,
    overrides: Mapping[str, Json] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of this process.

    Args:
        config: the settings file; the one that LIMEN_CONFIG names when None, else `limen.toml` here, if there is one.
        overrides: what the command line says, by key such as `admin.port`; a None says nothing.
        environment: the environment variables; those of this process when None.

    Raises:
        InvalidArgument: with every mistake, each with its key and where it is.
    """
    return read_settings(_sources(config, overrides, environment), environment)


def read_settings(sources: Sources, environment: Mapping[str, str] | None = None) -> Settings:
    """Return what sources say now: their file is read anew.

    Raises:
        InvalidArgument: as `load_settings`.
    """
    environment = os.environ if environment is None else environment
    mistakes: list[Violation] = []
    given = sources.given(KINDS, mistakes)
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    entries: list[Entry] = []
    for key, kind in KINDS.items():
        section, _, name = key.partition(".")
        if (found := given.get(key)) is None:
            default = getattr(SECTIONS[section](), name)
            entries.append(Entry(key, plain(default), "default", is_live(key)))
            continue
        try:
            value = checked(found.value, kind, key, Path(found.folder), environment)
        except InvalidArgument as exc:
            mistakes += [Violation(v.path, f"{v.reason} ({found.origin})") for v in exc.violations]
        else:
            sections[section][name] = value
            entries.append(Entry(key, shown(key, found.value, value), found.origin, is_live(key)))
    if mistakes:
        unknown = all(v.reason.startswith("is not a") for v in mistakes)
        raise InvalidArgument.of(mistakes, Reason.UNKNOWN_FIELD if unknown else Reason.INVALID_FIELD)
    made: dict[str, Any] = {section: kind(**sections[section]) for section, kind in SECTIONS.items()}
    return Settings(**made, sources=sources, entries=tuple(entries))


def is_live(key: str) -> bool:
    """Whether a running server follows a setting when its file changes; the others need a restart."""
    return key in _LIVE or (key.partition(".")[0] in _LIVE_SECTIONS and key not in _STATIC)


def changed_keys(before: Settings, after: Settings) -> list[str]:
    """Return the settings whose values differ."""
    return [key for key in KINDS if before.value(key) != after.value(key)]


def find_home(config: Path | None = None, environment: Mapping[str, str] | None = None) -> Path:
    """Return the home folder, whatever is wrong with other settings: commands that ask a server need no more.

    Raises:
        InvalidArgument: the file cannot be read, or the home is no path.
    """
    environment = os.environ if environment is None else environment
    key = "registry.home"
    found = _sources(config, None, environment).given({key: Path}, []).get(key)
    if found is None:
        return StorageConfig().home
    home: Path = checked(found.value, Path, key, Path(found.folder), environment)
    return home


def trusts_code(*, is_asked: bool, config: Path | None = None) -> bool:
    """Return whether packages may run code they bring: `trust.code`, which `--trust-code` on a command sets as well.

    Raises:
        InvalidArgument: as `load_settings`.
    """
    return load_settings(config, {"trust.code": is_asked or None}).trust.code


def _sources(
    config: Path | None, overrides: Mapping[str, Json] | None, environment: Mapping[str, str] | None
) -> Sources:
    said = {
        key: Given(value, FLAGS.get(key, "command line"))
        for key, value in (overrides or {}).items()
        if value is not None
    }
    return Sources.of(config, said, os.environ if environment is None else environment, KINDS)
