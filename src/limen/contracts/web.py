"""Tells browser requests on behalf of a web page from programs' requests: the same rule on every port."""

from __future__ import annotations

from typing import Final

_OWN_SITES: Final = frozenset({"none", "same-origin"})
"""Values of `Sec-Fetch-Site` of a person's own navigation, and of a page that this server gave."""
FOREIGN_PAGE: Final = "requests that a browser sends for another site are refused"


def is_for_another_site(host: str, origin: str | None, fetch_site: str | None) -> bool:
    """Return whether a browser sends a request for a page that this server did not give.

    Another port of this machine is another site: anybody may listen there. Programs send neither header.

    Args:
        host: the Host header.
        origin: the Origin header, if there is one.
        fetch_site: the Sec-Fetch-Site header, if there is one.
    """
    if origin is not None and origin.lower().partition("://")[2] != host.lower():
        return True
    return fetch_site is not None and fetch_site not in _OWN_SITES
