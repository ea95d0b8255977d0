"""Which file names a package may contain, and which files of a folder belong to it.

Pure rules apart from `list_files` and `ensure_inside`, which look at a folder. Called by `packaging.archive.package` (what goes in and
what comes out), `packaging.scan` and the backends (`ensure_inside`, for files that a model names itself).
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from limen.contracts.errors import InvalidPackage, Reason, Violation

MAX_FILES: Final = 10_000
MAX_SEGMENT_BYTES: Final = 100
MAX_PATH_BYTES: Final = 150
MAX_SEGMENTS: Final = 16
INDEX_NAME: Final = "manifest.json"
"""The list of files and their digests that `limen build` writes into an archive."""
SIGNATURE_NAME: Final = "model.sig"
"""The signature in a package folder. It is about the content and so no part of it."""

IGNORED_FOLDERS: Final = (
    *(".git", ".hg", ".svn"),  # version control
    *("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".ipynb_checkpoints", ".hypothesis"),  # caches
    *(".venv", "node_modules"),  # environments
    *(".idea", ".vscode"),  # editors
    *(".limen",),  # Limen's own state
)
"""Folders that never belong to a package, wherever they are in it."""
IGNORED_FILES: Final = (
    *("*.pyc", "*.pyo"),  # caches
    *("*~", "*.swp", "*.swo", ".#*", "#*#"),  # editors
    *(".DS_Store", "Thumbs.db", "desktop.ini"),  # desktops
    *(".gitignore", ".gitattributes", ".gitkeep"),  # version control
    *("*.limen", "*.limen.sig", ".*.staging"),  # build outputs
)
"""Names of files that never belong to a package, wherever they are in it."""
_RESERVED: Final = frozenset(
    ["con", "prn", "aux", "nul", *(f"{name}{i}" for name in ("com", "lpt") for i in range(1, 10))]
)


def is_ignored(path: str) -> bool:
    """Return whether a package leaves out the file at this relative path."""
    *folders, name = path.split("/")
    if path == SIGNATURE_NAME or any(folder in IGNORED_FOLDERS for folder in folders):
        return True
    return any(fnmatchcase(name, pattern) for pattern in IGNORED_FILES)


def signature_path(package: Path) -> Path:
    """Return where the signature of a package folder or archive belongs."""
    return package / SIGNATURE_NAME if package.is_dir() else package.with_name(f"{package.name}.sig")


def path_problem(path: str) -> str | None:
    """Return why a package may not hold a file at this path, or None when it may.

    A good path means the same file on every system: relative, `/` between its parts, in Unicode form NFC.
    """
    if not path:
        return "is empty"
    if path.startswith("/") or "\\" in path or ":" in path:
        return "must be a relative path with '/' between its parts, without ':' and '\\'"
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") for c in path):
        return "holds a control, invisible or unassigned character"
    if unicodedata.normalize("NFC", path) != path:
        return "must be in Unicode form NFC"
    parts = path.split("/")
    if len(parts) > MAX_SEGMENTS:
        return f"lies more than {MAX_SEGMENTS} folders deep"
    return next((problem for part in parts if (problem := _part_problem(part))), None)


def _part_problem(part: str) -> str | None:
    if part in ("", ".", ".."):
        return "must not hold empty parts, '.' or '..'"
    if len(part.encode()) > MAX_SEGMENT_BYTES:
        return f"has a part longer than {MAX_SEGMENT_BYTES} bytes"
    if part.endswith((".", " ")) or part.startswith(" "):
        return "has a part that starts or ends with a blank or ends with '.'"
    if part.partition(".")[0].casefold() in _RESERVED:
        return "has a part that is the name of a device on Windows"
    return None


def path_set_problems(paths: Iterable[str]) -> Iterator[Violation]:
    """Yield what is wrong with the paths of one package: each by itself, and those that collide.

    Two paths collide when some file system takes them for one: they differ in case only, or one is a folder of the other.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        if problem := path_problem(path):
            yield Violation(shown(path), problem)
            continue
        key = _fold(path)
        if key in seen:
            yield Violation(path, "collides with another file of the package" if seen[key] != path else "is repeated")
            continue
        seen[key] = path
        parts = path.split("/")
        for i in range(1, len(parts)):
            folder = "/".join(parts[:i])
            if folders.setdefault(_fold(folder), folder) != folder:
                yield Violation(path, "lies in a folder whose name differs from another one's in case only")
    yield from (Violation(seen[key], "is a file and a folder") for key in seen.keys() & folders.keys())


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path.casefold())


def shown(path: str) -> str:
    """Return a file name for an error text: short, on one line and without invisible characters."""
    plain = path.encode("unicode_escape").decode() if not path.isprintable() else path
    return plain if len(plain) <= 80 else plain[:77] + "…"


def list_files(folder: Path) -> list[str]:
    """Return the relative paths of a package folder's files, sorted, without the ignored ones.

    Raises:
        InvalidPackage: UNSAFE_ARCHIVE, with everything that is not a plain file or folder (links, devices, sockets) and every
            path a package may not hold; a folder with too many files.
    """
    found: list[str] = []
    problems: list[Violation] = []
    for path, mode in _walk(folder, ""):
        if is_ignored(path):
            continue
        if not stat.S_ISREG(mode):
            problems.append(
                Violation(shown(path), f"is {_kind(mode)}; a package may contain regular files and folders only")
            )
        found.append(path)
        if len(found) > MAX_FILES:
            raise InvalidPackage(f"the package has more than {MAX_FILES} files", reason=Reason.UNSAFE_ARCHIVE)
    found.sort()
    problems.extend(path_set_problems(found))
    if INDEX_NAME in found:
        problems.append(Violation(INDEX_NAME, "is a name `limen build` uses itself; rename or remove the file"))
    if problems:
        raise invalid("the package contains files it must not contain", problems, Reason.UNSAFE_ARCHIVE)
    return found


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield path, entry.stat(follow_symlinks=False).st_mode
            elif entry.name not in IGNORED_FOLDERS:
                if path.count("/") >= MAX_SEGMENTS:
                    text = f"the package has folders more than {MAX_SEGMENTS} deep"
                    raise InvalidPackage(text, reason=Reason.UNSAFE_ARCHIVE)
                yield from _walk(Path(entry.path), path + "/")


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def ensure_inside(folder: Path, relative: str) -> Path:
    """Return the real path of a file that something inside a package names, or refuse it.

    Args:
        folder: the package folder.
        relative: the path as it stands in the manifest or in a model file.

    Raises:
        InvalidPackage: UNSAFE_ARCHIVE when the path is absolute, leaves the folder, or goes through a link that does.
    """
    problem = path_problem(relative.removeprefix("./"))
    if problem is None:
        root = folder.resolve()
        target = (root / relative).resolve()
        if target.is_relative_to(root):
            return target
        problem = "leads out of the package"
    raise invalid(
        "the package names a file it may not use", [Violation(shown(relative), problem)], Reason.UNSAFE_ARCHIVE
    )


def invalid(what: str, problems: Iterable[Violation], reason: Reason = Reason.INVALID_PACKAGE) -> InvalidPackage:
    """Build one error that lists every problem; the message names the first ones."""
    found = tuple(problems)
    first = "; ".join(str(v) for v in found[:3])
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return InvalidPackage(f"{what}: {first}{more}", reason=reason, violations=found)
