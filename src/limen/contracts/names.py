"""Names and identifiers: parsed once at the edge, trusted afterwards.

Rules: model and endpoint names match `[a-z0-9][a-z0-9._-]{0,62}` without `..`, other than `stats`, because `/v2/models/stats`
is the statistics of all models; field names are identifiers so that they can stand in JSON, OpenAPI and Protobuf alike; request ids match `[A-Za-z0-9._:-]{1,128}`.
"""

from __future__ import annotations

import re
from typing import NewType

from limen.contracts.errors import InvalidArgument, Reason

ModelName = NewType("ModelName", str)
Version = NewType("Version", str)

MODEL_NAME = re.compile(r"(?!stats$)[a-z0-9](?!.*\.\.)[a-z0-9._-]{0,62}", re.ASCII)
FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}", re.ASCII)
WIRE_NAME = re.compile(r"[^\x00-\x20\x7f,](?:[^\x00-\x1f\x7f,]{0,198}[^\x00-\x20\x7f,])?")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
ALIAS = re.compile(r"(?!latest$)[a-z][a-z0-9_-]{0,62}", re.ASCII)
VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)

MODEL_NAME_RULE = (
    "1 to 63 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit, without '..', other than 'stats'"
)
ALIAS_RULE = "1 to 63 of a-z, 0-9, '_' and '-', starting with a letter, other than 'latest'"
WIRE_NAME_RULE = "1 to 200 characters without commas and control characters, and without a space at either end"
FIELD_NAME_RULE = "1 to 63 letters, digits and '_', starting with a letter"


def shown(name: str) -> str:
    """Return a caller's own name for an error path: short and harmless in a log, or `?`."""
    return name if FIELD_NAME.fullmatch(name) else "?"


def parse_model_name(text: str, path: str = "model_name") -> ModelName:
    """Return `text` as a model name or raise `InvalidArgument`."""
    if MODEL_NAME.fullmatch(text) is None:
        raise InvalidArgument.at(path, f"must be {MODEL_NAME_RULE}", Reason.INVALID_NAME)
    return ModelName(text)


def parse_alias(text: str, path: str = "alias") -> str:
    """Return `text` as an alias, which is never a number, or raise `InvalidArgument`."""
    if ALIAS.fullmatch(text) is None:
        raise InvalidArgument.at(path, f"must be {ALIAS_RULE}", Reason.INVALID_NAME)
    return text


def is_number(reference: str) -> bool:
    """Return whether a reference names a version by its number."""
    return VERSION.fullmatch(reference) is not None


def is_reference(text: str) -> bool:
    """Return whether text can name a version: a number for ever, or an alias for now."""
    return is_number(text) or ALIAS.fullmatch(text) is not None


def parse_called(text: str, path: str = "model_name") -> str:
    """Return what a caller calls a model, `NAME` or `NAME@ALIAS`, or raise `InvalidArgument`."""
    name, mark, alias = text.partition("@")
    parse_model_name(name, path)
    if mark:
        parse_alias(alias, path)
    return text


def parse_version(text: str, path: str = "model_version") -> Version:
    """Return `text` as a version number (1, 2, …) or raise `InvalidArgument`."""
    if VERSION.fullmatch(text) is None:
        raise InvalidArgument.at(path, "must be a whole number from 1, without leading zeros", Reason.INVALID_VERSION)
    return Version(text)


def parse_request_id(text: str, path: str = "id") -> str:
    """Return `text` as a request id that is safe in logs and headers, or raise `InvalidArgument`."""
    if REQUEST_ID.fullmatch(text) is None:
        raise InvalidArgument.at(path, "must be 1 to 128 of A-Z, a-z, 0-9, '.', '_', ':' and '-'", Reason.INVALID_ID)
    return text
