"""Determines from a request's head where its body ends, beyond a plain length. Used by `gateway.engine.receiving`."""

from __future__ import annotations

from limen.gateway.engine.errors import Refused, not_http
from limen.gateway.engine.message import Head


def check_framing(head: Head, version: str, *, upgrades: bool) -> int:
    """Return how many bytes of the body the parser leaves to its caller.

    After a head with an offer to switch protocols the parser takes no body, although there is one when the offer is declined.

    Args:
        head: the head; a connection that cannot go on after it is marked.
        version: the version of HTTP in the request line.
        upgrades: whether the parser sees such an offer.

    Raises:
        Refused: another version, a transfer coding or an expectation that is not read here.
    """
    if version not in {"1.1", "1.0"}:
        raise not_http()
    body_left = 0
    coding = head.headers.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or version != "1.1"):
        raise Refused(400, "BAD_REQUEST", "the only supported transfer coding is chunked, in HTTP/1.1")
    if upgrades:
        if coding is not None:
            raise Refused(400, "BAD_REQUEST", "this server does not switch protocols")
        if head.method == b"CONNECT":
            head.keep_alive = False
        else:
            body_left = int(head.headers.get(b"content-length", 0))
    if version == "1.1" and head.headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise Refused(417, "BAD_REQUEST", "this Expect header is not supported")
    return body_left
