"""The settings of processes, composed from the sections that packages own.

Each setting comes from the command line, else the environment, else the settings file, else its default. An unknown key or a
value that cannot be read is an error that names the key and where it came from, never the value. Secrets may be given by
reference: `env:NAME` or `file:/path`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from limen.admin.config import AdminConfig
from limen.contracts.contract import Json
from limen.contracts.errors import InvalidArgument, Reason, Violation
from limen.gateway.engine.config import HttpLimits
from limen.gateway.grpc.config import GrpcConfig
from limen.packaging.signing.config import TrustConfig
from limen.publishing.config import PublishConfig
from limen.storage.config import StorageConfig
from limen.telemetry.config import LogConfig

FILE_NAME: Final = "limen.toml"
"""Read from the working directory when no other file is named."""
FILE_VARIABLE: Final = "LIMEN_CONFIG"
SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "registry": StorageConfig,
    "trust": TrustConfig,
    "publish": PublishConfig,
    "admin": AdminConfig,
    "log": LogConfig,
}
"""The tables of the settings file."""
_SHORT_VARIABLES: Final = {
    "registry.home": "LIMEN_HOME",
    "registry.database_url": "LIMEN_DATABASE_URL",
    "registry.blobs": "LIMEN_BLOBS",
    "registry.s3_endpoint": "LIMEN_S3_ENDPOINT",
}
_SECRETS: Final = frozenset({"registry.database_url"})
_PATHS: Final = frozenset({"registry.home", "registry.blobs", "trust.keys", "trust.revoked"})
"""In the file they start from the file's folder."""
_PASSWORD = re.compile(r"(://[^:/@]*:)[^@]*@")
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_SECRET_BYTES: Final = 64 << 10


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `limen serve` needs to know. All static: a running server does not reread them."""

    packages: tuple[str, ...]
    """Package folders or archives; each becomes an endpoint of its own name."""
    home: str = ".limen"
    """Where extracted archives and run-time files live."""
    host: str = "127.0.0.1"
    """Loopback until callers can be authenticated."""
    http_port: int = 8000
    """0 lets the system choose."""
    grpc_port: int = 8001
    """0 lets the system choose."""
    metrics_port: int = 8003
    """0 lets the system choose."""
    workers: int = 1
    """Gateway processes that share the ports."""
    placement: Literal["inline", "process"] = "process"
    """Where models run: each version in processes of its own, or inside every gateway."""
    trust_code: bool = False
    """Whether packages that bring Python code may run it: `trust.code`, which `--trust-code` sets for one server."""
    model_control: Literal["none", "explicit"] = "none"
    """Whether callers of the protocol's management extensions may load and unload models, and say what is logged."""
    watch: bool = False
    """Whether a package that changes on disk is loaded again."""
    announce: str = ""
    """File to write the real addresses to once ready; none when empty."""
    access_log: bool = False
    """Log every request and not only failures."""
    http: HttpLimits = HttpLimits()
    grpc: GrpcConfig = GrpcConfig()


class Entry(msgspec.Struct, frozen=True):
    """One setting as `limen config show` shows it."""

    key: str
    """Section and name, such as `trust.keys`."""
    value: Json
    """Secrets are masked."""
    origin: str
    """The file, the environment variable, `command line` or `default`."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `limen.toml` and the environment say."""

    registry: StorageConfig = StorageConfig()
    trust: TrustConfig = TrustConfig()
    publish: PublishConfig = PublishConfig()
    admin: AdminConfig = AdminConfig()
    log: LogConfig = LogConfig()
    entries: tuple[Entry, ...] = ()
    """Each of them with where it came from."""


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
    environment = os.environ if environment is None else environment
    mistakes: list[Violation] = []
    layers = (
        _of_file(config, environment, mistakes),
        _of_environment(environment, mistakes),
        {key: ("command line", value, Path()) for key, value in (overrides or {}).items() if value is not None},
    )
    given = {key: found for layer in layers for key, found in layer.items()}
    sections: dict[str, msgspec.Struct] = {}
    entries: list[Entry] = []
    for section, kind in SECTIONS.items():
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            key = f"{section}.{field.name}"
            if key not in given:
                entries.append(Entry(key, _plain(field.default), "default"))
                continue
            origin, raw, folder = given[key]
            try:
                values[field.name] = _value(raw, field.type, key, folder, environment)
                entries.append(Entry(key, _masked(key, raw, values[field.name]), origin))
            except InvalidArgument as exc:
                mistakes += [Violation(v.path, f"{v.reason} ({origin})") for v in exc.violations]
        sections[section] = kind(**values)
    if mistakes:
        unknown = all(v.reason.startswith("is not a") for v in mistakes)
        raise InvalidArgument.of(mistakes, Reason.UNKNOWN_FIELD if unknown else Reason.INVALID_FIELD)
    return Settings(**sections, entries=tuple(entries))  # type: ignore[arg-type]  # each under its own name


def trusts_code(*, is_asked: bool, config: Path | None = None) -> bool:
    """Return whether packages may run code they bring: `trust.code`, which `--trust-code` on a command sets as well.

    Raises:
        InvalidArgument: as `load_settings`.
    """
    return load_settings(config, {"trust.code": is_asked or None}).trust.code


def variable_of(key: str) -> str:
    """Return the environment variable of a setting, such as LIMEN_ADMIN_PORT for `admin.port`."""
    return _SHORT_VARIABLES.get(key) or "LIMEN_" + key.replace(".", "_").upper()


def read_secret(reference: str, key: str, environment: Mapping[str, str] | None = None) -> str:
    """Return what a reference `env:NAME` or `file:/path` leads to; a file's last line break is left out.

    Raises:
        InvalidArgument: it is no reference, or leads nowhere.
    """
    environment = os.environ if environment is None else environment
    how, _, where = reference.partition(":")
    if how == "env":
        if where not in environment:
            raise InvalidArgument.at(key, f"the environment has no {where}")
        return environment[where]
    if how != "file":
        raise InvalidArgument.at(key, "must be env:NAME or file:/path")
    try:
        with Path(where).open("rb") as file:
            return file.read(_MAX_SECRET_BYTES).decode().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidArgument.at(key, "the file it names cannot be read") from exc


_Layer = dict[str, tuple[str, Json, Path]]
"""Key to where it comes from, what it says, and the folder that its relative paths start from."""


def _of_file(config: Path | None, environment: Mapping[str, str], mistakes: list[Violation]) -> _Layer:
    named = config or (Path(found) if (found := environment.get(FILE_VARIABLE)) else None)
    path = named or Path(FILE_NAME)
    if named is None and not path.is_file():
        return {}
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidArgument.at(str(path), "the settings file cannot be read") from exc
    except tomllib.TOMLDecodeError as exc:
        place = re.search(r"\(at .*\)$", str(exc))
        where = place.group() if place else ""
        raise InvalidArgument.at(str(path), f"is not TOML {where}".rstrip()) from exc
    layer: _Layer = {}
    for section, values in content.items():
        if section not in SECTIONS:
            mistakes.append(_unknown(section, list(SECTIONS), "section", str(path)))
        elif not isinstance(values, dict):
            mistakes.append(Violation(section, f"must be a table ({path})"))
        else:
            layer |= {f"{section}.{name}": (str(path), value, path.parent) for name, value in values.items()}
    for key in layer.keys() - set(_keys()):
        mistakes.append(_unknown(key, list(_keys()), "setting", str(path)))
        del layer[key]
    return layer


def _of_environment(environment: Mapping[str, str], mistakes: list[Violation]) -> _Layer:
    variables = {variable_of(key): key for key in _keys()}
    ours = tuple(f"LIMEN_{section.upper()}_" for section in SECTIONS)
    layer: _Layer = {}
    for variable, text in sorted(environment.items()):
        if (key := variables.get(variable)) is None:
            if variable.startswith(ours):
                mistakes.append(_unknown(variable, list(variables), "setting", "environment"))
            continue
        kind = _keys()[key]
        layer[key] = (variable, _parsed(text, kind), Path())
    return layer


def _keys() -> dict[str, Any]:
    """Return the type of each setting."""
    return {f"{s}.{field.name}": field.type for s, kind in SECTIONS.items() for field in msgspec.structs.fields(kind)}


def _parsed(text: str, kind: Any) -> Json:
    """Return what the text of an environment variable means; text that cannot be meant stays, and is refused as a value."""
    info = _bare(kind)
    if isinstance(info, msgspec.inspect.BoolType):
        return {"true": True, "false": False}.get(text, text)
    if isinstance(info, msgspec.inspect.IntType):
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII) else text
    if isinstance(info, msgspec.inspect.VarTupleType):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _value(raw: Json, kind: Any, key: str, folder: Path, environment: Mapping[str, str]) -> Any:
    if key in _SECRETS and _is_reference(raw):
        raw = read_secret(raw, key, environment)
    try:
        found = msgspec.convert(raw, str if kind is Path else kind)
    except msgspec.ValidationError as exc:
        raise InvalidArgument.at(key, _rule(kind)) from exc
    if key not in _PATHS:
        return found
    if isinstance(found, str):
        return Path(_placed(found, folder)) if kind is Path else _placed(found, folder)
    return tuple(_placed(path, folder) for path in found)


def _placed(path: str, folder: Path) -> str:
    """Return a path that a file names, seen from here: relative ones start from the file's folder."""
    is_path = path and "://" not in path and not _DIGEST.fullmatch(path)
    return str(folder / path) if is_path else path


def _is_reference(raw: Json) -> bool:
    return isinstance(raw, str) and raw.startswith(("env:", "file:"))


def _masked(key: str, raw: Json, value: Any) -> Json:
    if key not in _SECRETS:
        return _plain(value)
    return raw if _is_reference(raw) else _PASSWORD.sub(r"\1***@", str(value))


def _plain(value: Any) -> Json:
    return msgspec.to_builtins(value, enc_hook=str)


def _rule(kind: Any) -> str:
    info = _bare(kind)
    if isinstance(info, msgspec.inspect.BoolType):
        return "must be true or false"
    if isinstance(info, msgspec.inspect.LiteralType):
        return "must be " + " or ".join(f'"{value}"' for value in info.values)
    if isinstance(info, msgspec.inspect.VarTupleType):
        return "must be a list of texts"
    if isinstance(info, msgspec.inspect.IntType):
        return f"must be a whole number from {info.ge}" + (f" to {info.le}" if info.le is not None else "")
    return "must be text"


def _bare(kind: Any) -> msgspec.inspect.Type:
    info = msgspec.inspect.type_info(kind)
    return info.type if isinstance(info, msgspec.inspect.Metadata) else info


def _unknown(key: str, known: list[str], noun: str, source: str) -> Violation:
    close = difflib.get_close_matches(key, known, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return Violation(key, f"is not a {noun}{hint} ({source})")
