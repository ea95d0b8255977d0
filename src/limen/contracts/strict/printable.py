"""Makes text from packages, servers and files safe to show on a terminal or keep in a log.

A title may hold whatever its author wrote: sequences that move the cursor, change the title of a window or hide what follows, and
characters that turn the direction of a line. Such characters are shown as their number in hexadecimal digits, as JSON writes it.
"""

from __future__ import annotations

import re
from typing import Final

from limen.contracts.errors import InvalidArgument

MAX_TEXT: Final = 1000
"""Characters of a free text that a person gives, such as a reason."""
_UNSAFE: Final = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f"  # control characters, but for the tab and the line break
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # the direction of text
    "\\u2028\\u2029\\u200b\\u2060\\ufeff\\ufff9-\\ufffb"  # other line breaks, and what cannot be seen
    "\\ud800-\\udfff"  # halves of characters, which no terminal takes
    "\\U000e0000-\\U000e007f]"
)


def printable(text: str) -> str:
    """Return text without characters that act on whatever shows it."""
    return _UNSAFE.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number <= 0xFFFF:
        return f"\\u{number:04x}"
    high, low = divmod(number - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def check_text(text: str, path: str) -> None:
    """Raise `InvalidArgument` for free text that is not a short line."""
    if len(text) > MAX_TEXT or not text.isprintable():
        raise InvalidArgument.at(path, f"must be at most {MAX_TEXT} printable characters")
