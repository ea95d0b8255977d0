"""Where settings come from: the file, the environment and the command line, each with the place of every setting.

`Sources` goes to the control process as it is, so that only the file is read again while a server runs.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from limen.contracts.contract import Json
from limen.contracts.errors import InvalidArgument, Violation
from limen.settings.values import parsed

FILE_NAME: Final = "limen.toml"
"""Read from the working directory when no other file is named."""
FILE_VARIABLE: Final = "LIMEN_CONFIG"
_SHORT_VARIABLES: Final = {
    "registry.home": "LIMEN_HOME",
    "registry.database_url": "LIMEN_DATABASE_URL",
    "registry.blobs": "LIMEN_BLOBS",
    "registry.s3_endpoint": "LIMEN_S3_ENDPOINT",
}
_OF_KUBERNETES = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?)")
"""Variables that Kubernetes sets in every container for a service by the name of one of our sections."""
Kinds = Mapping[str, Any]
"""The type of each setting, by its key."""


class Given(msgspec.Struct, frozen=True):
    """What one source says about one setting."""

    value: Json
    origin: str
    """`FILE:LINE`, the name of the variable, or the flag."""
    folder: str = ""
    """Where relative paths start; the working directory when empty."""


class Sources(msgspec.Struct, frozen=True):
    """Everything that settings come from."""

    file: str = FILE_NAME
    is_named: bool = False
    """Whether somebody asked for this file, so that it must be there."""
    fixed: dict[str, Given] = {}
    """What the environment and the command line say, by key; it goes before the file."""
    mistakes: tuple[Violation, ...] = ()
    """What is wrong with those."""

    @classmethod
    def of(
        cls, config: Path | None, overrides: Mapping[str, Given], environment: Mapping[str, str], kinds: Kinds
    ) -> Sources:
        """Find all sources.

        Args:
            config: the settings file, if one is named.
            overrides: what the command line says, by key.
            environment: the environment variables.
            kinds: the settings there are.
        """
        mistakes: list[Violation] = []
        named = str(config) if config is not None else environment.get(FILE_VARIABLE, "")
        fixed = _of_environment(environment, kinds, mistakes) | dict(overrides)
        return cls(named or FILE_NAME, bool(named), fixed, tuple(mistakes))

    def given(self, kinds: Kinds, mistakes: list[Violation]) -> dict[str, Given]:
        """Return what holds of each setting that any source mentions; mistakes are added to the list.

        Raises:
            InvalidArgument: the file cannot be read at all.
        """
        mistakes += self.mistakes
        return self._of_file(kinds, mistakes) | self.fixed

    def _of_file(self, kinds: Kinds, mistakes: list[Violation]) -> dict[str, Given]:
        path = Path(self.file)
        if not self.is_named and not path.is_file():
            return {}
        text = _text_of(path)
        lines = lines_of(text)
        sections = sorted({key.partition(".")[0] for key in kinds})
        found: dict[str, Given] = {}
        for section, values in tomllib.loads(text).items():
            if section not in sections:
                mistakes.append(_unknown(section, sections, "section", _place(path, lines.get(section))))
            elif not isinstance(values, dict):
                mistakes.append(Violation(section, f"must be a table ({_place(path, lines.get(section))})"))
            else:
                for name, value in values.items():
                    key = f"{section}.{name}"
                    place = _place(path, lines.get(key))
                    if key in kinds:
                        found[key] = Given(value, place, str(path.parent))
                    else:
                        mistakes.append(_unknown(key, list(kinds), "setting", place))
        return found


def variable_of(key: str) -> str:
    """Return the environment variable of a setting, such as LIMEN_ADMIN_PORT for `admin.port`."""
    return "LIMEN_" + key.replace(".", "_").upper()


def variables_of(key: str) -> tuple[str, ...]:
    """Return every name of a setting's environment variable, the usual one first."""
    short = _SHORT_VARIABLES.get(key)
    return (variable_of(key),) if short is None else (short, variable_of(key))


def lines_of(text: str) -> dict[str, int]:
    """Return the line on which each section, and each key `section.name`, of a TOML document begins.

    TOML has statements of whole lines, so the shortest run of lines that can be parsed alone is one statement.
    """
    found: dict[str, int] = {}
    table = pending = ""
    begun = 1
    for number, line in enumerate(text.split("\n"), 1):
        begun = begun if pending else number
        pending = f"{pending}{line}\n"
        try:
            said = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        is_header = pending.lstrip().startswith("[")
        for key in _keys_of(said):
            found.setdefault(key if is_header or not table else f"{table}.{key}", begun)
        if is_header:
            table = next(reversed(_keys_of(said)), "")
        pending = ""
    return found


def _keys_of(said: Mapping[str, Any]) -> list[str]:
    """Return the first two steps of each key of a document."""
    inner = [f"{key}.{name}" for key, value in said.items() if isinstance(value, dict) for name in value]
    return [*said, *inner]


def _text_of(path: Path) -> str:
    """Return a file that is TOML.

    Raises:
        InvalidArgument: it is not, or cannot be read.
    """
    try:
        text = path.read_bytes().decode().replace("\r\n", "\n")
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        place = re.search(r"\(at .*\)$", str(exc))
        where = place.group() if place else ""
        raise InvalidArgument.at(str(path), f"is not TOML {where}".rstrip()) from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise InvalidArgument.at(str(path), "the settings file cannot be read") from exc
    return text


def _of_environment(environment: Mapping[str, str], kinds: Kinds, mistakes: list[Violation]) -> dict[str, Given]:
    variables = {variable: key for key in kinds for variable in variables_of(key)}
    ours = tuple({f"LIMEN_{key.partition('.')[0].upper()}_" for key in kinds})
    found: dict[str, Given] = {}
    for variable, text in sorted(environment.items()):
        if (key := variables.get(variable)) is None:
            if variable.startswith(ours) and not _OF_KUBERNETES.fullmatch(variable):
                mistakes.append(_unknown(variable, list(variables), "setting", "environment"))
        elif key in found and found[key].value != parsed(text, kinds[key]):
            mistakes.append(Violation(key, f"is repeated, differently ({found[key].origin}, {variable})"))
        else:
            found[key] = Given(parsed(text, kinds[key]), variable)
    return found


def _place(path: Path, line: int | None) -> str:
    return f"{path}:{line}" if line is not None else str(path)


def _unknown(key: str, known: Iterable[str], noun: str, source: str) -> Violation:
    close = difflib.get_close_matches(key, list(known), 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return Violation(key, f"is not a {noun}{hint} ({source})")
