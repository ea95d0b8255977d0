"""Packs tensors into frames for one direction of a connection, and announces each layout before its first use.

Called by both ends: `link` and `channel`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from limen.contracts.errors import ModelFailed
from limen.contracts.inference import Parameter
from limen.contracts.tensors import Array
from limen.runtime.placement.process.wire.arena import Arena, Region
from limen.runtime.placement.process.wire.frames import HEADER, LAYOUT, MAX_FRAME, SIZE, TRIAL, text_frame
from limen.runtime.placement.process.wire.layout import Key, Layout, join, key_of, layout_of

MAX_LAYOUTS: Final = 1024
"""Layouts that are remembered; after that numbers are given anew."""
NO_PARAMETERS: Final[Mapping[str, Parameter]] = {}


class Packer:
    """Knows which layouts the other side has been told."""

    __slots__ = ("_told", "arena")

    def __init__(self, arena: Arena | None) -> None:
        """Put large tensors into `arena`, if there is one."""
        self.arena = arena
        self._told: dict[Key, tuple[int, Layout]] = {}

    def pack(
        self,
        kind: int,
        groups: Sequence[Mapping[str, Array]],
        parameters: Mapping[str, Parameter],
        *,
        call: int,
        first: int,
        count: int,
        rows: int,
        time: float,
        row_counts: Sequence[int] = (),
        is_batched: bool = True,
        is_trial: bool = False,
    ) -> tuple[bytes, Sequence[Region]]:
        """Return a frame, behind the frame of its layout if that is new, and the places in the arena that it uses.

        The tensors of `groups` agree in everything but their rows. Nothing that is returned shares memory with them.

        Raises:
            LimenError: tensors that cannot travel; nothing has changed then.
        """
        key = key_of(groups[0], parameters, is_batched=is_batched)
        known = self._told.get(key)
        number, layout = known or (
            len(self._told) % MAX_LAYOUTS,
            layout_of(groups[0], parameters, is_batched=is_batched),
        )
        counts = struct.pack(f"<{count}I{4 * (count & 1)}x", *row_counts) if row_counts else b""
        body = layout.pack(groups, rows, self.arena)
        try:
            length = SIZE + len(counts) + body.size
            if length > MAX_FRAME:
                raise ModelFailed("the tensors are too large for one message")
            head = HEADER.pack(
                length, kind, body.flags | (TRIAL if is_trial else 0), number, call, first, count, rows, time
            )
            data = join(head, counts, body)
        except BaseException:
            self.free(body.regions)
            raise
        if known is None:
            if len(self._told) == MAX_LAYOUTS:
                self._told.clear()
            self._told[key] = number, layout
            data = text_frame(LAYOUT, layout.encode(), layout=number) + data
        return data, body.regions

    def free(self, regions: Sequence[Region]) -> None:
        """Use places in the arena again."""
        if self.arena is not None:
            for region in regions:
                self.arena.ring.free(region)
