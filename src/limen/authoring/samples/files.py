"""Samples in files: CSV, JSON, JSON lines, Parquet, Feather and NumPy arrays, detected by content and name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from limen.authoring.samples.delimited import TextTable, read_delimited
from limen.authoring.samples.frames import as_sample
from limen.authoring.samples.sample import SAMPLE_ROWS, Sample, ensure_rows
from limen.contracts.errors import InvalidPackage, Reason

KINDS: Final = "CSV (.csv, .tsv), JSON (.json, .jsonl), Parquet, Feather and NumPy (.npy, .npz)"


def read_sample(path: Path, limit: int | None = SAMPLE_ROWS) -> Sample:
    """Return the columns of a file of example rows.

    Args:
        path: the file.
        limit: rows that are read; all if None.

    Raises:
        InvalidPackage: it is no such file; MISSING_DEPENDENCY when the library that reads it is not installed.
    """
    found = read_table(path, limit)
    return ensure_rows(found.sample() if isinstance(found, TextTable) else found)


def read_table(path: Path, limit: int | None = SAMPLE_ROWS) -> TextTable | Sample:
    """Return the cells of a text file, or the columns of a file that has types of its own.

    Raises:
        InvalidPackage: as `read_sample`.
    """
    if not path.is_file():
        raise InvalidPackage(f"no such file: {path}")
    reader = _reader(path)
    if reader is None:
        return read_delimited(path, limit)
    return as_sample(reader(path, limit), str(path), limit)


def _reader(path: Path) -> Callable[[Path, int | None], Any] | None:
    """Return what reads a file; None for delimited text."""
    with path.open("rb") as file:
        start = file.read(8)
    suffix = path.suffix.casefold()
    if start.startswith(b"PAR1"):
        return _parquet
    if start.startswith((b"ARROW1", b"FEA1")):
        return _feather
    if start.startswith(b"\x93NUMPY"):
        return _array
    if start.startswith(b"PK") and suffix == ".npz":
        return _arrays
    if start.startswith(b"PK") or suffix in (".xlsx", ".xls", ".ods"):
        raise InvalidPackage(f"{path} is a spreadsheet or an archive; a sample is one of {KINDS}. Save it as CSV")
    if suffix in (".jsonl", ".ndjson"):
        return _json_lines
    return _json if suffix == ".json" else None


def _parquet(path: Path, limit: int | None) -> Any:
    parquet, arrow = _arrow("pyarrow.parquet", path), _arrow("pyarrow", path)
    with _readable(path, "Parquet"), parquet.ParquetFile(path) as file:
        if limit is None:
            return file.read()
        first = next(file.iter_batches(batch_size=limit), None)
        return arrow.Table.from_batches([] if first is None else [first], schema=file.schema_arrow)


def _feather(path: Path, limit: int | None) -> Any:
    feather = _arrow("pyarrow.feather", path)
    with _readable(path, "Feather"):
        return feather.read_table(path).slice(0, limit)


def _array(path: Path, limit: int | None) -> Any:
    with _readable(path, "NumPy array"):
        return np.load(path, mmap_mode="r", allow_pickle=False)[:limit]


def _arrays(path: Path, limit: int | None) -> Any:
    with _readable(path, "NumPy archive"), np.load(path, allow_pickle=False) as file:
        return {name: file[name][:limit] for name in file.files}


def _json_lines(path: Path, limit: int | None) -> Any:
    with _readable(path, "JSON lines"), path.open("rb") as file:
        return [msgspec.json.decode(line) for line in islice(filter(bytes.strip, file), limit)]


def _json(path: Path, _: int | None) -> Any:
    """Return records, columns by name, rows, a frame as pandas writes it (`orient="split"`), or the body of a request."""
    with _readable(path, "JSON"):
        found = msgspec.json.decode(path.read_bytes())
    if isinstance(found, dict) and found.keys() >= {"columns", "data"}:
        return [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]
    return found["instances"] if isinstance(found, dict) and isinstance(found.get("instances"), list) else found


def _arrow(module: str, path: Path) -> Any:
    try:
        return import_module(module)
    except ImportError as exc:
        text = f"reading {path.name} needs pyarrow: install limen[tables], or save the sample as CSV or JSON lines"
        raise InvalidPackage(text, reason=Reason.MISSING_DEPENDENCY) from exc


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a reader makes of a broken file into what people can use."""
    try:
        yield
    except (ValueError, TypeError, KeyError, EOFError, OSError, msgspec.MsgspecError) as exc:
        raise InvalidPackage(f"{path} looks like {kind} but cannot be read; save it again, or as CSV") from exc
