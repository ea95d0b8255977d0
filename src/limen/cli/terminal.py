"""Filters terminal output: text from packages, servers and files cannot control the terminal.

Colours are ours alone: `words.paint` marks them with a word that nobody else knows.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

from limen.contracts.strict.printable import printable

_WORD: Final = os.urandom(8).hex()
_COLOUR: Final = re.compile(f"\x1b{_WORD}\\[([0-9;]*)m")


class SafeStream:
    """A text stream that shows control characters instead of sending them."""

    def __init__(self, stream: TextIO) -> None:
        """Write to another stream."""
        self._stream = stream

    def colour(self, code: str) -> str:
        """Return what is to be written for the sequence of a colour to arrive."""
        return f"\x1b{_WORD}[{code}m"

    def write(self, text: str | bytes) -> int:
        """Write text, which may be encoded already; return its length, as a stream does."""
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        # Every second piece is the code of a colour.
        pieces = _COLOUR.split(text)
        shown = [f"\x1b[{piece}m" if i % 2 else printable(piece) for i, piece in enumerate(pieces)]
        self._stream.write("".join(shown))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for text in lines:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # the way around `write`
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextmanager
def safe_output() -> Iterator[None]:
    """Have standard output and standard error be safe for the block."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = SafeStream(out), SafeStream(err)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
