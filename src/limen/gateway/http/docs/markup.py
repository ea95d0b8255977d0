"""Builds HTML from values: everything that is not `Html` is text and gets escaped. Used by `docs.page`."""

from __future__ import annotations

import html
from typing import Final


class Html(str):
    """Finished HTML. Made only by `tag` and `trusted`."""

    __slots__ = ()


Child = str | Html
_VOID: Final = frozenset({"meta", "wbr"})


def tag(name: str, /, *children: Child, **attributes: str) -> Html:
    """Return an element whose plain children and attribute values are escaped.

    A trailing `_` of an attribute's name goes and other underscores become dashes: `class_`, `aria_label`.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value, quote=True)}"' for key, value in attributes.items()
    )
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Html:
    """Return the children one after the other, plain ones escaped."""
    return Html("".join(c if isinstance(c, Html) else html.escape(c, quote=True) for c in children))


def trusted(text: str) -> Html:
    """Return text of this program as HTML, unescaped. Never for text that someone else wrote."""
    return Html(text)
