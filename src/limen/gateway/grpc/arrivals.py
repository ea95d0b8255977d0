"""gRPC messages on their way to a handler: counted as held from their arrival until they are answered.

Neither engine tells what it holds of a message that is not whole yet. The system tells how much each connection has received, and here is
counted how much of that were whole messages: the rest is arriving. Used by `gateway.grpc.server`, which has every handler wrapped, and by
`gateway.grpc.census`, which looks at the connections.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote

import grpc

from limen.contracts.errors import LimenError, ResourceExhausted
from limen.gateway.engine.held_bytes import SMALL, HeldBytes
from limen.gateway.grpc.status import Context, Unary, refuse

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Peer = tuple[str, int]
"""The address and port of a caller."""
ELSEWHERE: Final[Peer] = ("", 0)
"""Callers whose connection is not known: the native engine hands some calls on by a socket of its own."""
FRAMING_BYTES: Final = 4096
"""What a message is allowed to bring along, such as metadata."""
FRAMING_SHARE: Final = 64
"""The same for large ones: one byte in so many."""


class Arrivals:
    """Counts the messages of one server. Used from one event loop."""

    def __init__(self, held: HeldBytes) -> None:
        """Count in `held`, with what other servers of this process hold."""
        self.held = held
        self._came: defaultdict[str, int] = defaultdict(int)
        """Bytes of whole messages since the last look, by caller as the engine calls it."""
        self._arriving: dict[Peer, int] = {}
        """What is counted as held for messages that are not whole."""

    def came(self, peer: str, size: int) -> None:
        """Note a whole message."""
        self._came[peer] += size + FRAMING_BYTES + size // FRAMING_SHARE
        if size > SMALL and self._arriving:
            # It is held as a whole one from now on.
            known = peer_of(peer)
            less = min(size, self._arriving.get(known, 0))
            self._arriving[known] = self._arriving.get(known, 0) - less
            self.held.give(less)

    def take(self) -> dict[Peer, int]:
        """Return the bytes of the whole messages that have come since the last time, by caller."""
        came = by_peer(self._came)
        self._came.clear()
        return came

    def note(self, arriving: Mapping[Peer, int]) -> None:
        """Count what is arriving now, by caller, instead of what was; what has become whole meanwhile is not."""
        came = by_peer(self._came)
        found = {peer: max(0, size - came.get(peer, 0)) for peer, size in arriving.items()}
        more = sum(found.values()) - sum(self._arriving.values())
        self._arriving = found
        self.held.take(more)

    def wrapped(
        self, handlers: Mapping[str, Handler], refused: Callable[[LimenError], None] = lambda _: None
    ) -> dict[str, Handler]:
        """Return handlers whose messages are counted; `refused` learns of those that there is no room for."""
        return {name: self._wrapped(handler, refused) for name, handler in handlers.items()}

    def _wrapped(self, handler: Handler, refused: Callable[[LimenError], None]) -> Handler:
        if handler.request_streaming:
            # Such a handler counts its messages while it answers them.
            return grpc.stream_stream_rpc_method_handler(_same_kind(handler.stream_stream, self._each))
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(_same_kind(handler.unary_stream, self._first))
        method: Unary = cast("Any", handler.unary_unary)
        came = self._came

        async def unary(data: bytes, context: Context) -> bytes:
            size = len(data)
            if size <= SMALL:
                came[context.peer()] += size + FRAMING_BYTES
                return await method(data, context)
            self.came(context.peer(), size)
            try:
                with self.held.holding(size):
                    return await method(data, context)
            except ResourceExhausted as error:  # handlers end their calls by themselves, so this is ours
                refused(error)
                await refuse(context, error)

        return grpc.unary_unary_rpc_method_handler(unary)

    def _first(self, data: bytes, context: Context) -> bytes:
        self.came(context.peer(), len(data))
        return data

    async def _each(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for data in requests:
            self.came(context.peer(), len(data))
            yield data


def _same_kind(method: Any, counted: Callable[[Any, Context], Any]) -> Any:
    """Return a handler of a stream that writes its answers in the way that `method` does."""
    if not inspect.isasyncgenfunction(method):

        async def writing(asked: Any, context: Context) -> None:
            await method(counted(asked, context), context)

        return writing

    async def yielding(asked: Any, context: Context) -> AsyncIterator[bytes]:
        async with aclosing(method(counted(asked, context), context)) as answers:
            async for answer in answers:
                yield answer

    return yielding


def by_peer(sizes: Mapping[str, int]) -> dict[Peer, int]:
    """Return numbers by caller that are by its name."""
    found: dict[Peer, int] = {}
    for text, size in sizes.items():
        peer = peer_of(text)
        found[peer] = found.get(peer, 0) + size
    return found


def peer_of(text: str) -> Peer:
    """Return the address that an engine means: `ipv4:127.0.0.1:80`, `ipv6:[::1]:80`, `ipv6:%5B::1%5D:80`."""
    kind, _, address = unquote(text).partition(":")
    host, _, port = address.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return ELSEWHERE
    return plain(host.strip("[]")), int(port)


def plain(host: str) -> str:
    """Return an address in one form, also where both kinds share a socket."""
    return host.removeprefix("::ffff:")
