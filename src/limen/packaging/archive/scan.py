"""Detects changes of a package on disk by names, sizes and times, without reading the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from limen.packaging.paths import is_ignored

Scan = tuple[tuple[str, int, int], ...]
"""The name, size and time of change of each file of a package."""


def scan(path: Path) -> Scan:
    """Return what tells that a package was changed; nothing when it cannot be read just now."""
    try:
        return tuple(sorted(_scan(path)))
    except OSError:
        return ()


def _scan(path: Path) -> Iterator[tuple[str, int, int]]:
    if path.is_file():
        facts = path.stat()
        yield path.name, facts.st_size, facts.st_mtime_ns
        return
    for file in path.rglob("*"):
        name = file.relative_to(path).as_posix()
        if not is_ignored(name) and file.is_file():
            facts = file.stat()
            yield name, facts.st_size, facts.st_mtime_ns
