"""Does what a page of the documentation tells its reader to do, and compares what happens with what the page shows.

A block with `title="path"` is a file; a `console` block holds commands after `$ ` and what they print. Other blocks are not run.
A line `…` stands for any lines, `…` within a line for any text. `limen serve` runs until the next one or the end of the page; the page's
addresses stand for the real ones.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.example_server import SCRIPTS, TIMEOUT_S, environment

BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARIES = (
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"\d+\.\d+ ms", "TIME"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"-[0-9a-f]{12}\.limen", "-DIGEST.limen"),
    (r"\b[0-9.]+ (?:B|KiB|MiB)$", "SIZE"),
    (r'"pid":\d+', '"pid":PID'),
    # The last digits of a float differ between processors.
    (r"(\d\.\d{4})\d+", r"\1"),
)
NO_PORTS = [word for name in ("http", "grpc", "metrics", "admin") for word in (f"--{name}-port", "0")]
INTEROP = Path(__file__).parents[2] / ".venv-interop" / "bin"


class Reader:
    """Somebody who follows a page in a folder."""

    def __init__(self, folder: Path, *, has_clients: bool = False) -> None:
        """Start in `folder`; without `has_clients`, commands that need clients we did not write are left out."""
        self.folder = folder
        self.has_clients = has_clients
        self.done: list[str] = []
        self._addresses: dict[str, str] = {}

    def follow(self, page: Path) -> None:
        """Write the files and run the commands of a page, in their order."""
        with ExitStack() as servers:
            for language, title, text in BLOCK.findall(page.read_text()):
                if title:
                    file = self.folder / title
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(self._real(text))
                elif language == "console":
                    for command, shown in commands(text):
                        self._do(command, shown, servers)

    def _do(self, command: str, shown: str, servers: ExitStack) -> None:
        needs_clients = self._needs_clients(command)
        if needs_clients and not self.has_clients:
            return
        self.done.append(command)
        if command.startswith("limen serve") and "error:" not in shown:
            servers.close()
            printed, self._addresses = servers.enter_context(serving(command, self.folder))
        else:
            variables = environment()
            if needs_clients:
                variables["PATH"] = f"{INTEROP}:{variables['PATH']}"
            run = subprocess.run(
                ["bash", "-c", self._real(command)],
                cwd=self.folder,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            printed = run.stdout
            assert (run.returncode != 0) == ("error:" in shown or "FAIL" in shown), f"$ {command}\n{printed}"
        assert matches(printed, shown), f"$ {command}\n{printed}\n-- the page shows --\n{shown}"

    def _needs_clients(self, command: str) -> bool:
        program, *arguments = shlex.split(command)
        script = self.folder / arguments[0] if program == "python" else None
        return program == "grpcurl" or bool(script and script.exists() and "tritonclient" in script.read_text())

    def _real(self, text: str) -> str:
        for address, real in self._addresses.items():
            text = text.replace(address, real)
        return text


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the output shown below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        end = next(i for i, line in enumerate(lines) if not line.endswith("\\")) + 1
        yield "\n".join(lines[:end]), "\n".join(lines[end:])


def matches(printed: str, shown: str) -> bool:
    """Return whether an output is the one shown, apart from what differs from run to run."""
    pattern = "\n".join(
        r"(?:.*\n)*?.*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) for line in plain(shown)
    )
    return re.fullmatch(pattern, "\n".join(plain(printed))) is not None


def plain(output: str) -> list[str]:
    """Return the lines of an output without blank ones and with what varies replaced."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    for pattern, word in VARIES:
        lines = [re.sub(pattern, word, line) for line in lines]
    return lines


@contextmanager
def serving(command: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a `limen serve` command on ports of the system's choice; yield what it printed, its log aside, and its addresses."""
    program, *arguments = shlex.split(command)
    if "--announce" not in arguments:
        arguments += ["--announce", "page-server.json"]
    announcement = folder / arguments[arguments.index("--announce") + 1]
    announcement.unlink(missing_ok=True)
    log = folder / "page-server.log"
    with log.open("wb") as output, (folder / "page-server-stderr.log").open("wb") as errors:
        server = subprocess.Popen(
            [str(SCRIPTS / program), *arguments, *NO_PORTS],
            cwd=folder,
            env=environment(),
            stdout=output,
            stderr=errors,
        )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not (announcement.exists() and "Ctrl-C" in log.read_text()):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"not ready after {TIMEOUT_S} s: {log.read_text()}"
            time.sleep(0.02)
        found: dict[str, Any] = json.loads(announcement.read_text())
        yield log.read_text(), {"127.0.0.1:8000": found["http"], "127.0.0.1:8001": found["grpc"]}
        server.terminate()
        assert server.wait(timeout=TIMEOUT_S) == 0, log.read_text()
    finally:
        server.kill()
        server.wait()
