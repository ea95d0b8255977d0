"""Determines what a file really is, and whether a package may contain it. Content decides; a name can only make it worse.

No pickle, ever: pickles are found in every protocol, wrapped and packed, and refused. Called by `packaging.archive.package` for whole
packages, by the backends for their artifact and by `limen init` and `limen check`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from limen.contracts.errors import InvalidPackage, Reason, Violation
from limen.packaging.formats.containers import Finding, look_into_compressed, look_into_zip
from limen.packaging.formats.known import HEAD_BYTES, UNSAFE, Format, recognise
from limen.packaging.formats.safetensors import read_header
from limen.packaging.manifest.values import Manifest
from limen.packaging.paths import invalid, list_files, shown

CODE_SUFFIXES: Final = frozenset(
    [".py", ".pyi", ".pyx", ".ipynb", ".sh", ".bash", ".bat", ".cmd", ".ps1", ".js", ".jar", ".whl"]
)
"""Files that only packages with code may hold."""
NEVER_SUFFIXES: Final = frozenset([".so", ".dylib", ".dll", ".pyd", ".exe", ".pyc", ".pyo", ".pth", ".egg"])
"""Files no package may hold: native code, bytecode, and what Python runs unasked."""
NEVER_NAMES: Final = frozenset(["conftest.py", "sitecustomize.py", "usercustomize.py"])
"""Files that Python tools run unasked."""
SAFETENSORS_SUFFIX: Final = ".safetensors"
_CODE_FORMATS: Final = frozenset([Format.PYTHON, Format.SCRIPT])
_CODE_NAMES: Final = frozenset(["requirements.txt", "setup.cfg", "pyproject.toml"])
REMOVE: Final = "remove it from the package"


def sniff(path: Path) -> Format:
    """Return the format of a file by its content.

    Python source has no mark of its own, so a text that is named `.py` is Python too.
    """
    return examine(path).format


def examine(path: Path) -> Finding:
    """Return the format of a file, and what inside it is unsafe."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return Finding(Format.EMPTY)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = recognise(data)
            head = data[:HEAD_BYTES]
            if found is Format.SAFETENSORS or (path.suffix == SAFETENSORS_SUFFIX and found not in UNSAFE):
                return _look_into_safetensors(data)
        if found is Format.ARCHIVE and head.startswith(b"PK"):
            return look_into_zip(file)
    if found in (Format.COMPRESSED, Format.BINARY) and (inner := look_into_compressed(head)):
        return inner
    if found in (Format.TEXT, Format.CSV, Format.YAML, Format.JSON) and path.suffix == ".py":
        found = Format.PYTHON
    return Finding(found)


def _look_into_safetensors(data: mmap.mmap) -> Finding:
    try:
        read_header(data)
    except InvalidPackage as exc:
        return Finding(Format.BROKEN_SAFETENSORS, problem=exc.message)
    return Finding(Format.SAFETENSORS)


def ensure_format(path: Path, formats: Sequence[str]) -> None:
    """Refuse a file that is not of one of these formats.

    Raises:
        InvalidPackage: there is no such file; UNSAFE_FORMAT for a format no package may hold; another format.
    """
    name = shown(path.name)
    if not path.is_file():
        raise invalid("the artifact cannot be loaded", [Violation(name, "there is no such file")])
    finding = examine(path)
    if finding.format in formats:
        return
    if problem := _unsafe(finding):
        raise invalid("the artifact is unsafe", [Violation(name, problem)], Reason.UNSAFE_FORMAT)
    text = f"must be {' or '.join(formats)} for this backend; the content is {finding.format}"
    raise invalid("the artifact cannot be loaded", [Violation(name, text)])


def scan_folder(folder: Path, manifest: Manifest) -> None:
    """Refuse a package folder that holds anything unsafe.

    Raises:
        InvalidPackage: UNSAFE_FORMAT, with every file that is unsafe by content or by name, and every code file of a package
            whose backend is not `python`; UNSAFE_ARCHIVE for links, devices and names a package may not hold.
    """
    found = [Violation(path, problem) for path in list_files(folder) if (problem := _problem(folder, path, manifest))]
    if found:
        raise invalid("the package holds unsafe files", found, Reason.UNSAFE_FORMAT)


def _problem(folder: Path, path: str, manifest: Manifest) -> str | None:
    """Return why a package may not hold this file, or None; a file that is not the model itself is to be removed."""
    problem = _unfit(folder, path, may_hold_code=manifest.backend == "python")
    return problem if problem is None or path == manifest.artifact_path else f"{problem}; {REMOVE}"


def _unfit(folder: Path, path: str, *, may_hold_code: bool) -> str | None:
    name = PurePosixPath(path).name.casefold()
    suffixes = {s.casefold() for s in PurePosixPath(path).suffixes}
    if name in NEVER_NAMES or suffixes & NEVER_SUFFIXES:
        return "is a name that tools load or run as code; packages must not contain it"
    try:
        finding = examine(folder / path)
    except OSError as exc:
        raise InvalidPackage(f"{shown(path)}: the file cannot be read") from exc
    if problem := _unsafe(finding):
        return problem
    is_code = finding.format in _CODE_FORMATS or bool(suffixes & CODE_SUFFIXES) or name in _CODE_NAMES
    if is_code and not may_hold_code:
        return "is code; only a package with `backend: python` may hold code, and it needs trust to be served"
    return None


def _unsafe(finding: Finding) -> str | None:
    reason = UNSAFE.get(finding.format)
    if reason is None:
        return None
    where = f" (in {shown(finding.member)})" if finding.member else ""
    why = f": {finding.problem}" if finding.problem else ""
    return f"{reason}{why}{where}"
