"""Detects whether bytes would act as a pickle, without unpickling them.

The opcodes are walked as an unpickler walks them, with the depth of its stack and no values. A file is a pickle when the
walk reaches a call after an import, or the end of a pickle. Magic numbers alone would miss protocol 0, which has none, and
would take a text for a pickle. Called by `packaging.formats.sniff`.
"""

from __future__ import annotations

import mmap
import pickletools
import re
from typing import Final

import msgspec

Data = bytes | mmap.mmap
"""The content of a file: in memory or mapped."""

MAX_STEPS: Final = 100_000
"""No other file is a valid program for so long; a pickle may be padded to escape a shorter look."""
_HIGHEST_PROTOCOL: Final = 5
_PROTO: Final = 0x80
_IMPORTS: Final = frozenset(["GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"])
_CALLS: Final = frozenset(["REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"])
_ARRANGED: Final = frozenset(["PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"])
"""Opcodes that fail unless the loading program made arrangements for them."""
_MODULE = re.compile(rb"[\w.\x80-\xff]+")
_NAME = re.compile(rb"[\w.<>\x80-\xff-]+")


class _Step(msgspec.Struct, frozen=True):
    """What one opcode does to the stack and where its argument ends."""

    name: str
    pops: int
    """Items taken off the stack; those below the mark when `to_mark`."""
    to_mark: bool
    """Whether everything above the highest mark is taken first."""
    pushes: int
    """Items put on the stack."""
    lines: int
    """Lines of text that follow."""
    size: int
    """Bytes that follow."""
    counter: int
    """Bytes of the count of further bytes that follow."""


def _step(op: pickletools.OpcodeInfo) -> _Step:
    before = op.stack_before
    to_mark = pickletools.markobject in before
    pops = before.index(pickletools.markobject) if to_mark else len(before)
    lines = size = counter = 0
    if op.arg is not None:
        n = op.arg.n
        if n == pickletools.UP_TO_NEWLINE:
            lines = 2 if op.name in ("GLOBAL", "INST") else 1
        elif n >= 0:
            size = n
        else:
            counter = {
                pickletools.TAKEN_FROM_ARGUMENT1: 1,
                pickletools.TAKEN_FROM_ARGUMENT4: 4,
                pickletools.TAKEN_FROM_ARGUMENT4U: 4,
                pickletools.TAKEN_FROM_ARGUMENT8U: 8,
            }[n]
    return _Step(op.name, pops, to_mark, len(op.stack_after), lines, size, counter)


_STEPS: Final = {ord(op.code): _step(op) for op in pickletools.opcodes}


def is_pickle(data: Data) -> bool:
    """Return whether an unpickler would import and call something in `data`, or read a whole object from it."""
    position = steps = 0
    # Several pickles may follow each other in one file, and the first may be harmless.
    while position < len(data):
        walk = _Walk(data, position)
        end = walk.run()
        steps += walk.steps
        if end is None or steps > MAX_STEPS:
            return walk.is_found or steps > MAX_STEPS
        has_header = data[position] == _PROTO
        rest = data[end : end + 4096]
        if has_header or (walk.steps > 2 and position == 0 and not rest.strip()):
            return True
        position = end
        if walk.steps < 2:
            return False
    return False


class _Walk:
    """One pass over one pickle."""

    def __init__(self, data: Data, position: int) -> None:
        self._data = data
        self._position = position
        self._items = 0
        # The items below each mark; items above the highest one are in _items.
        self._marks: list[int] = []
        self._has_header = data[position] == _PROTO
        self._has_import = False
        self.is_found = False
        self.steps = 0

    def run(self) -> int | None:
        """Return where the pickle ends, or None when it breaks off or was found to be one."""
        data, size = self._data, len(self._data)
        while self._position < size:
            step = _STEPS.get(data[self._position])
            if step is None or not self._take(step):
                return None
            self.steps += 1
            if step.name == "STOP":
                return self._position
            self._has_import = self._has_import or step.name in _IMPORTS
            if (self._has_import and step.name in _CALLS) or self.steps > MAX_STEPS:
                self.is_found = True
                return None
        return None

    def _take(self, step: _Step) -> bool:
        """Do one step; return whether an unpickler would get past it."""
        # Programs that make arrangements write the header too. Without one it is chance: a zip archive begins like that.
        if step.name in _ARRANGED and not self._has_header:
            return False
        return self._argument(step) and self._effect(step)

    def _argument(self, step: _Step) -> bool:
        data = self._data
        start = self._position + 1
        if step.lines:
            return self._text(step, start)
        end = start + step.size + step.counter
        if end > len(data):
            return False
        if step.counter:
            end += int.from_bytes(data[start:end], "little")
        if end > len(data) or (step.name == "PROTO" and data[start] > _HIGHEST_PROTOCOL):
            return False
        self._position = end
        return True

    def _text(self, step: _Step, start: int) -> bool:
        parts = []
        for _ in range(step.lines):
            end = self._data.find(b"\n", start)
            if end < 0:
                return False
            parts.append(self._data[start:end] if step.lines == 2 and end - start < 1000 else b"")
            start = end + 1
        self._position = start
        return step.lines == 1 or bool(_MODULE.fullmatch(parts[0]) and _NAME.fullmatch(parts[1]))

    def _effect(self, step: _Step) -> bool:
        if step.name == "MARK":
            self._marks.append(self._items)
            self._items = 0
            return True
        if step.to_mark or (step.name == "POP" and self._marks and not self._items):
            if not self._marks:
                return False
            self._items = self._marks.pop()
            if not step.to_mark:
                return True
        if self._items < step.pops:
            return False
        self._items += step.pushes - step.pops
        return True
