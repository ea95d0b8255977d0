"""What versions are called in the store: a number for ever, or an alias for now.

Pure rules about text. `registry` resolves references; `traffic.endpoints` reads them in `endpoint.yaml`.
"""

from __future__ import annotations

import re
from typing import Final

from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.names import VERSION

ALIAS = re.compile(r"(?!latest$)[a-z][a-z0-9_-]{0,62}", re.ASCII)
ALIAS_RULE: Final = "1 to 63 of a-z, 0-9, '_' and '-', starting with a letter, other than 'latest'"


def parse_alias(text: str, path: str = "alias") -> str:
    """Return `text` as an alias or raise `InvalidArgument`."""
    if ALIAS.fullmatch(text) is None:
        raise InvalidArgument.at(path, f"must be {ALIAS_RULE}", Reason.INVALID_NAME)
    return text


def is_number(reference: str) -> bool:
    """Tell whether a reference names a version by its number."""
    return VERSION.fullmatch(reference) is not None


def is_reference(text: str) -> bool:
    """Tell whether text can name a version: a number or an alias."""
    return is_number(text) or ALIAS.fullmatch(text) is not None
