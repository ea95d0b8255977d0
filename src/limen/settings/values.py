"""What a setting may be: reading its text, checking its bounds, saying its rule, and hiding its secrets."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from limen.contracts.contract import Json
from limen.contracts.errors import InvalidArgument

SECRETS: Final = frozenset({"registry.database_url"})
"""Settings that may hold a password, and may be given by reference."""
PATHS: Final = frozenset(
    {"serve.packages", "serve.announce", "registry.home", "registry.blobs", "trust.keys", "trust.revoked"}
)
"""In the file they start from the file's folder."""
_PASSWORD = re.compile(r"(://[^:/@]*:)[^@]*@")
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
_MAX_SECRET_BYTES: Final = 64 << 10


def parsed(text: str, kind: Any) -> Json:
    """Return what the text of an environment variable means. Text with no meaning is returned as it is, and `checked` refuses it."""
    match _bare(kind):
        case msgspec.inspect.BoolType():
            return {"true": True, "false": False}.get(text, text)
        case msgspec.inspect.IntType():
            return int(text) if _WHOLE.fullmatch(text) else text
        case msgspec.inspect.FloatType():
            return float(text) if _NUMBER.fullmatch(text) else text
        case msgspec.inspect.VarTupleType():
            return [part.strip() for part in text.split(",") if part.strip()]
        case _:
            return text


def checked(raw: Json, kind: Any, key: str, folder: Path, environment: Mapping[str, str]) -> Any:
    """Return the value of a setting.

    Args:
        raw: what its source says.
        kind: its type, with its bounds.
        key: its section and name.
        folder: where relative paths start.
        environment: where references `env:NAME` lead.

    Raises:
        InvalidArgument: the value breaks the rule of the setting, or a reference leads nowhere. Values are never shown.
    """
    if key in SECRETS and is_reference(raw):
        raw = read_secret(raw, key, environment)
    if isinstance(raw, float) and not math.isfinite(raw):
        raise InvalidArgument.at(key, rule(kind))
    try:
        found = msgspec.convert(raw, str if kind is Path else kind)
    except msgspec.ValidationError as exc:
        raise InvalidArgument.at(key, rule(kind)) from exc
    if any("\0" in text for text in (found if isinstance(found, tuple) else (found,)) if isinstance(text, str)):
        raise InvalidArgument.at(key, "must not contain a NUL character")
    if key not in PATHS:
        return found
    if isinstance(found, str):
        return Path(_placed(found, folder)) if kind is Path else _placed(found, folder)
    return tuple(_placed(path, folder) for path in found)


def shown(key: str, raw: Json, value: Any) -> Json:
    """Return a value as it may be shown: without passwords, and with references instead of what they lead to."""
    if key not in SECRETS:
        return plain(value)
    return raw if is_reference(raw) else _PASSWORD.sub(r"\1***@", str(value))


def plain(value: Any) -> Json:
    """Return a value as TOML and JSON can hold it."""
    return msgspec.to_builtins(value, enc_hook=str)


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
    except (OSError, UnicodeDecodeError, ValueError) as exc:
        raise InvalidArgument.at(key, "the file it names cannot be read") from exc


def is_reference(raw: Json) -> bool:
    """Whether a value says where a secret is instead of being it."""
    return isinstance(raw, str) and raw.startswith(("env:", "file:"))


def rule(kind: Any) -> str:
    """Return what a setting must be, for people."""
    match _bare(kind):
        case msgspec.inspect.BoolType():
            return "must be true or false"
        case msgspec.inspect.LiteralType(values=values):
            return "must be " + " or ".join(f'"{value}"' for value in values)
        case msgspec.inspect.VarTupleType():
            return "must be a list of texts"
        case msgspec.inspect.IntType() as found:
            return f"must be a whole number{_bounds(found)}"
        case msgspec.inspect.FloatType() as found:
            return f"must be a number{_bounds(found)}"
        case _:
            return "must be text"


def _bounds(found: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    """Return the bounds of a number, for people."""
    low = f" from {_number(found.ge)}" if found.ge is not None else ""
    if found.gt is not None:
        low = f" above {_number(found.gt)}"
    joint = " and at most " if found.gt is not None else " to "
    return low + (f"{joint}{_number(found.le)}" if found.le is not None else "")


def _number(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def _bare(kind: Any) -> msgspec.inspect.Type:
    info = msgspec.inspect.type_info(kind)
    return info.type if isinstance(info, msgspec.inspect.Metadata) else info


def _placed(path: str, folder: Path) -> str:
    """Return a path that a file names, seen from here: relative ones start from the file's folder."""
    is_path = path and "://" not in path and not _DIGEST.fullmatch(path)
    return str(folder / path) if is_path else path
