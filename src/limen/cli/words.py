"""Error output of the command line: problems on standard error, colours only on a terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limen.contracts.errors import Reason

MANIFEST_NAME = "model.yaml"
"""As in `packaging.manifest.values`, which costs more to import than the process that supervises a server has all in all."""


class CommandError(Exception):
    """A command cannot go on: what happened, and what to do next."""

    def __init__(self, what: str, hint: str = "") -> None:
        """Keep a text for people and a hint about the next step."""
        super().__init__(what)
        self.what = what
        self.hint = hint


def existing_package(path: Path) -> Path:
    """Return the path of a package, or say what is missing there before anything is loaded."""
    if not path.exists():
        raise CommandError(
            f"nothing found at {path}", "Give a folder with a model.yaml, or an archive made by `limen build`."
        )
    if path.is_dir() and not (path / MANIFEST_NAME).is_file():
        raise CommandError(
            f"{path} is not a package: it has no {MANIFEST_NAME}",
            f"`limen init NAME --from FILE` makes a package from a trained model; `limen schema` describes {MANIFEST_NAME}.",
        )
    return path


def headline(message: str, mistakes: Sequence[str]) -> str:
    """Return a message without the mistakes that are going to be listed below it."""
    if len(mistakes) < 2:
        return message
    if message.startswith(mistakes[0]):
        return f"there are {len(mistakes)} mistakes"
    return message.partition(f": {mistakes[0]}")[0]


def next_step(reason: Reason | None, mistakes: Sequence[str] = (), message: str = "") -> str:
    """Return what to do about something that was refused for this reason; nothing when the mistakes say it themselves.

    Args:
        reason: why it was refused.
        mistakes: what is wrong, a line each.
        message: what happened, where the reason alone does not say what to do.
    """
    from limen.contracts.errors import Reason
    from limen.storage import causes

    if reason in (Reason.STORAGE, Reason.STORAGE_FULL) and (step := causes.next_step(message)):
        return step

    if (
        reason is Reason.UNSAFE_FORMAT
        and mistakes
        and all(text.endswith("remove it from the package") for text in mistakes)
    ):
        return ""

    steps = {
        Reason.UNSAFE_FORMAT: "Save the model in a format without code: ONNX, skops, XGBoost JSON/UBJ or LightGBM text. "
        "`limen import FILE --trust-pickle` converts a pickle you trust.",
        Reason.UNTRUSTED_CODE: "Read the code first: it runs with all your permissions.",
        Reason.INVALID_PACKAGE: "`limen check PACKAGE` shows everything that is wrong with a package.",
        Reason.REJECTED: "`limen check PACKAGE` shows what the model answers to its examples.",
        Reason.UNSAFE_ARCHIVE: "Make an archive with `limen build FOLDER`.",
        Reason.IN_USE: "See what refers to it with `limen alias list MODEL` and `limen endpoint list`.",
        Reason.RETIRED: "Restore it with `limen model restore MODEL VERSION`.",
        Reason.STALE: "Check its current state, then try again.",
        Reason.STORAGE: "Nothing was changed. Run it again when the service is available.",
        Reason.STORAGE_FULL: "Nothing was changed. Free some space and run it again.",
        Reason.SIGNATURE: "`limen sign PACKAGE --key FILE` signs the current content; `limen verify PACKAGE` checks a signature.",
    }
    return steps.get(reason, "") if reason else ""


def problem(what: str, details: Sequence[str] = (), hint: str = "") -> None:
    """Say what happened, where, and what to do next, on standard error: in words, or as a line of the log where that is JSON."""
    from limen.telemetry.form import is_json

    if is_json():
        logging.getLogger("limen.server").critical("%s", "; ".join((what, *details, *([hint] if hint else []))))
        return
    lines = [f"{paint('error', '31;1', sys.stderr)}: {what}"]
    if len(details) > 1 or (details and details[0] not in what):
        lines += [f"  - {text}" for text in details]
    if hint:
        lines += [f"{paint('hint', '36', sys.stderr)}: {hint}"]
    sys.stderr.write("\n".join(lines) + "\n")


def paint(text: str, code: str, stream: object = None) -> str:
    """Return text in an ANSI colour when the stream is a terminal that wants colours."""
    stream = stream or sys.stdout
    is_terminal = getattr(stream, "isatty", lambda: False)()
    if not is_terminal or os.environ.get("NO_COLOR"):
        return text
    colour = getattr(stream, "colour", lambda code: f"\x1b[{code}m")
    return f"{colour(code)}{text}{colour('0')}"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: 1 worker, 2 workers."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
