"""Memory that two processes share, mapped without keeping a descriptor."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from limen.runtime.placement.process.wire.arena import create_memory
from limen.runtime.placement.process.wire.mapping import map_memory

SIZE = 1 << 16


def open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = create_memory(SIZE)
    yield descriptor
    os.close(descriptor)


def test_what_is_written_is_read_through_another_mapping(memory: int) -> None:
    written, read = map_memory(memory, SIZE), map_memory(memory, SIZE, is_reader=True)
    written[10:14] = b"word"
    assert bytes(read[10:14]) == b"word"


def test_a_mapping_takes_no_descriptor(memory: int) -> None:
    before = open_files()
    views = [map_memory(memory, SIZE) for _ in range(10)]
    assert open_files() == before
    assert len(views) == 10


def test_a_reader_cannot_write(memory: int) -> None:
    view = map_memory(memory, SIZE, is_reader=True)
    with pytest.raises(TypeError):
        view[0] = 1
    array = np.ndarray((4,), np.float32, view)
    assert not array.flags.writeable


def test_memory_stays_mapped_for_as_long_as_an_array_uses_it(memory: int) -> None:
    view = map_memory(memory, SIZE)
    view[:4] = np.float32(2.5).tobytes()
    array = np.ndarray((1,), np.float32, view)
    del view
    gc.collect()
    assert array[0] == 2.5


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="only Linux tells what is mapped")  # noqa: PTH110
def test_memory_that_nobody_uses_is_not_mapped_any_more(memory: int) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:limen")

    before = mapped()
    view = map_memory(memory, SIZE)
    assert mapped() == before + 1
    del view
    gc.collect()
    assert mapped() == before


def test_more_than_the_file_has_is_not_mapped(memory: int) -> None:
    with pytest.raises(ValueError, match="smaller"):
        map_memory(memory, SIZE + 1)


def test_what_cannot_be_mapped_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 4096)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with pytest.raises(PermissionError):
            map_memory(descriptor, 4096)
    finally:
        os.close(descriptor)
