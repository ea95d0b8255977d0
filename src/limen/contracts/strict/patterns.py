r"""The regular expressions of a contract, matched in time linear in the text.

The engine is RE2. An author's pattern and a caller's text are both untrusted, so nothing here backtracks: what RE2 cannot say
(lookaround, backreferences) is refused, and the product of a pattern's size and a text's is bounded.

A pattern means what JSON Schema says: it may match anywhere in the text unless it is anchored with `^` and `$`. `$` is the very end
of the text. `\d`, `\w`, `\s` and `\b` know ASCII only; `\p{L}` and its like know Unicode. Called by the checks of the contract.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

MAX_SIZE: Final = 10_000
"""Instructions of a compiled pattern. `[a-z]{1,50}` has about 100, `\\p{L}` 1,200."""
MAX_STEPS: Final = 1 << 23
"""Instructions times bytes that one text may cost: some 30 ms at the worst, which few patterns and texts come near."""
_SEPARATOR: Final = "\0"
_FEW: Final = 4
"""Texts up to which matching one by one is quicker than joining them."""

_UNSUPPORTED: Final = (
    (re.compile(r"\(\?<?[=!]"), "lookahead and lookbehind are not supported"),
    (re.compile(r"\\[1-9]|\\k<|\(\?P="), "backreferences are not supported"),
    (
        re.compile(r"\(\?>|[*+?}]\+"),
        "atomic groups and possessive repetitions are not supported; remove the extra sign",
    ),
    (re.compile(r"\(\?\("), "conditions are not supported"),
    (re.compile(r"\(\?#"), "comments are not supported"),
    (re.compile(r"\\Z"), "\\Z is not supported; write $, which matches only at the end of the text"),
    (re.compile(r"\\u"), "\\u is not supported; write \\x{…} or the character itself"),
)
_REASONS: Final = {
    "missing ]": "a [ is never closed",
    "missing )": "a ( is never closed",
    "unexpected )": "a ) was never opened",
    "no argument for repetition operator": "there is nothing to repeat before a repetition",
    "bad repetition operator": "one repetition follows another",
    "invalid repetition size": "repetitions multiply to more than 1000",
    "invalid escape sequence": "an escape is unknown",
    "invalid character class range": "a range or class in [] is unknown",
    "invalid perl operator": "a group starts with an unknown (? construct",
    "pattern too large": "it is too large; a repetition counts once for each time it repeats",
}


class PatternError(ValueError):
    """A pattern that cannot be used. The text says why and does not repeat the pattern."""


class Pattern:
    """One compiled pattern. Immutable; shared by all requests."""

    __slots__ = ("_anywhere", "_column", "_match", "_whole", "longest", "text")

    def __init__(self, text: str) -> None:
        """Compile the pattern.

        Raises:
            PatternError: it is no regular expression, needs backtracking, or is too large.
        """
        regexp = _compiled(text)
        size = max(regexp.ProgramSize(), regexp.ReverseProgramSize())
        if size > MAX_SIZE:
            raise PatternError(_REASONS["pattern too large"])
        self.text = text
        self.longest = MAX_STEPS // size
        """Bytes of the longest text it is matched against."""
        self._match = regexp.Match
        anchor = type(regexp).Anchor
        self._anywhere, self._whole = anchor.UNANCHORED, anchor.ANCHOR_BOTH
        self._column = _column_match(text)

    def matches(self, text: str) -> bool:
        """Return whether the pattern matches somewhere in the text, which may not be longer than `longest`."""
        data = text.encode(errors="surrogatepass")
        size = len(data)
        # A match is a list of spans, of which there is one: groups are never captured.
        return size <= self.longest and bool(self._match(self._anywhere, data, 0, size)[0][0] >= 0)

    def match_all(self, texts: Sequence[str]) -> bool:
        """Return whether the pattern matches every text; for common patterns with one call for all of them."""
        return self._match_column(texts) or all(map(self.matches, texts))

    def _match_column(self, texts: Sequence[str]) -> bool:
        """Return whether the pattern is known to match every text."""
        if self._column is None or len(texts) <= _FEW or max(map(len, texts)) * 4 > self.longest:
            return False
        data = (_SEPARATOR.join(texts) + _SEPARATOR).encode(errors="surrogatepass")
        is_clean = data.count(b"\0") == len(texts)
        return is_clean and bool(self._column(self._whole, data, 0, len(data))[0][0] >= 0)


@lru_cache(256)
def compile_pattern(text: str) -> Pattern:
    """Return the compiled pattern, or raise `PatternError`."""
    return Pattern(text)


def _compiled(text: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    if re.search(r"(?<!\\)(?:\\\\)*\\C", text):
        raise PatternError("\\C matches half a character")
    try:
        # `search` of the public class takes 5 µs to describe a match that nobody reads.
        return re2.compile(text, options)._regexp  # noqa: SLF001
    except (re2.error, UnicodeEncodeError) as exc:
        raise PatternError(_reason(text, exc)) from None


def _reason(text: str, exc: Exception) -> str:
    plain = re.sub(r"\\\\", "", text)
    for form, reason in _UNSUPPORTED:
        if form.search(plain):
            return reason
    said = exc.args[0] if exc.args else b""
    kind = said.decode(errors="replace").partition(":")[0] if isinstance(said, bytes) else ""
    return _REASONS.get(kind, "it cannot be read")


_TOKEN: Final = re.compile(
    r"\\[dws.+*?()\[\]{}|^$\\/-]|\[(?:[A-Za-z0-9 _./:@+*,%#-]|\\[dws.+*/\\\]-])+\]|[A-Za-z0-9 _/:@,;=%&#!~'\"<>-]"
    r"|[*+?]|\{[0-9]+(?:,[0-9]*)?\}|\((?:\?:)?|[|)]"
)


def _column_match(text: str) -> Callable[..., Any] | None:
    """Return what matches a whole column at once, each text followed by a separator; None where that is not the same.

    It is the same for a pattern that is anchored at both ends and can match no separator: classes are lists of printable
    characters, and an alternative stands in a group, so that both anchors belong to all of the pattern.
    """
    inner, at, depth = text[1:-1], 0, 0
    if not (len(text) > 2 and text[0] == "^" and text[-1] == "$"):
        return None
    while at < len(inner):
        token = _TOKEN.match(inner, at)
        if token is None or (token[0] == "|" and depth == 0):
            return None
        depth += (token[0][0] == "(") - (token[0] == ")")
        at = token.end()
    try:
        return _compiled(f"(?:(?:{inner})\\x00)*").Match  # type: ignore[no-any-return]
    except PatternError:
        return None
