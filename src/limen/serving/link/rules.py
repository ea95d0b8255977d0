"""Checks of requests to the management extensions, shared by all protocols.

Gateways read plain values from JSON or messages; what they mean is decided here, once. No input or output. Called by
`serving.link.operations`.
"""

from __future__ import annotations

from collections.abc import Mapping

from limen.contracts.contract import Json
from limen.contracts.errors import InvalidArgument, Reason, Unsupported
from limen.contracts.snapshot import LogLevels
from limen.serving.messages.lines import AskLog

_LEVELS = {"log_info": "info", "log_warning": "warning", "log_error": "error"}
_FIXED: dict[str, Json] = {"log_verbose_level": 0, "log_format": "default"}
"""Settings that have one value here; it may be said again."""


def check_load(repository: str, parameters: Mapping[str, Json]) -> None:
    """Refuse a load that asks for more than loading what the server has.

    Raises:
        Unsupported: a repository is named, or files or a configuration are brought along.
        InvalidArgument: a parameter that is not known.
    """
    _check_repository(repository)
    for key in parameters:
        if key == "config" or key.startswith("file:"):
            raise Unsupported("a load request takes no configuration or files: the package defines how it runs")
        raise _unknown("parameters")


def check_unload(repository: str, parameters: Mapping[str, Json]) -> None:
    """Refuse an unload that asks for more than that.

    Raises:
        Unsupported: a repository is named.
        InvalidArgument: a parameter that is not known, or not true or false.
    """
    _check_repository(repository)
    for key, value in parameters.items():
        if key != "unload_dependents":
            raise _unknown("parameters")
        # No model depends on another here, so that it changes nothing.
        if not isinstance(value, bool):
            path = "parameters.unload_dependents"
            raise InvalidArgument.at(path, "must be true or false", Reason.INVALID_PARAMETER)


def log_change(settings: Mapping[str, Json]) -> AskLog:
    """Return what the settings of the logging extension change.

    Raises:
        Unsupported: the log's file cannot be chosen by callers.
        InvalidArgument: a setting that is not known, or a value that it cannot have here.
    """
    changes: dict[str, bool] = {}
    for key, value in settings.items():
        if key in _LEVELS:
            if not isinstance(value, bool):
                raise InvalidArgument.at(key, "must be true or false")
            changes[_LEVELS[key]] = value
        elif key in _FIXED:
            if type(value) is not type(_FIXED[key]) or value != _FIXED[key]:
                raise InvalidArgument.at(key, f"can only be {_FIXED[key]} here")
        elif key == "log_file":
            raise Unsupported("log_file is read-only: it is set when the server is started")
        else:
            raise _unknown("settings")
    return AskLog(**changes)


def log_settings(levels: LogLevels) -> dict[str, bool | int | str]:
    """Return all settings of the logging extension as they are."""
    shown: dict[str, bool | int | str] = {"log_file": ""}
    return {**shown, **{key: getattr(levels, name) for key, name in _LEVELS.items()}, **_FIXED}


def _check_repository(repository: str) -> None:
    if repository:
        raise Unsupported("repository names are not supported: there is only one")


def _unknown(path: str) -> InvalidArgument:
    return InvalidArgument.at(path, "a key is unknown", Reason.UNKNOWN_FIELD)
