"""The real program as its users run it: `limen` commands that end, and `limen serve` processes that answer."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import msgspec

from tests.services import commands, plain_http

LIMEN = [sys.executable, "-m", "limen"]
LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) ")
LAST_LINE = "Ctrl-C stops it"
WAIT_S = 60
"""Bounds every wait: far above what anything here takes, so that a busy machine does not fail a test."""


def limen(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return commands.run([*map(str, arguments)], cwd, WAIT_S)


def refused(*arguments: object, cwd: Path | None = None, status: int = 1) -> str:
    """Run a command that must fail; return what it told people, its log aside, which is never a traceback."""
    done = limen(*arguments, cwd=cwd)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert "failed unexpectedly" not in done.stderr, done.stderr
    return "".join(line for line in done.stderr.splitlines(keepends=True) if not LOGGED.match(line))


class Server:
    """A `limen serve` process that is ready."""

    def __init__(self, process: subprocess.Popen[str], summary: str, announcement: Path) -> None:
        self.process = process
        self.summary = summary
        self.announced = msgspec.json.decode(announcement.read_bytes())
        self.http = plain_http.Client(base_url=f"http://{self.announced['http']}", timeout=WAIT_S)

    @property
    def grpc(self) -> str:
        return str(self.announced["grpc"])

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self, kind: str = "") -> list[int]:
        """Return the process ids of everything the server has started, or of one kind: control, gateway, template or replica."""
        pids = [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        mark = rf"{kind}(\.main)? import main|limen {kind}"
        return [pid for pid in pids if re.search(mark, command_line(pid))]

    def predict(self, model: str, **fields: object) -> object:
        """Ask for one record over a new connection and return the answer's fields."""
        answer = plain_http.post(
            f"{self.http.base_url}/v1/models/{model}:predict", json={"instances": [fields]}, timeout=WAIT_S
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"][0]

    def worker(self) -> str:
        """Return the part of a request id that tells which worker answered a new connection."""
        answer = plain_http.get(f"{self.http.base_url}/v2/health/live", timeout=WAIT_S)
        assert answer.status_code == 200
        return answer.headers["x-request-id"].partition("-")[0]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and return the exit status and everything that was written after the summary."""
        self.process.send_signal(number)
        return self.ended()

    def stopped_well(self, *told: str) -> bool:
        """Stop it; whether it ended well and has logged nothing but lines with one of these texts."""
        status, err = self.stop()
        assert status == 0, err
        assert [line for line in err.splitlines() if not any(text in line for text in told)] == []
        return True

    def ended(self) -> tuple[int, str]:
        """Wait for the end and return the exit status and what standard error held."""
        self.http.close()
        _, err = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, err


@contextmanager
def serving(
    *arguments: object, announcement: Path, command_name: str = "serve", log: Path | None = None, max_files: int = 0
) -> Iterator[Server]:
    """Run `limen serve`, or another command that serves, on free ports until the block ends.

    Args:
        *arguments: of the command.
        announcement: the file for its addresses.
        command_name: another command.
        log: a file for what it logs.
        max_files: the limit of open files; the one of the tests when 0.
    """
    command = [*LIMEN, command_name, *map(str, arguments), "--http-port", "0", "--grpc-port", "0"]
    command += ["--metrics-port", "0", "--announce", str(announcement)]
    if max_files:
        command = ["sh", "-c", f'ulimit -n {max_files}; exec "$0" "$@"', *command]
    # What happens as it should is left out, so that a test can say that nothing else was written.
    environment = {"LIMEN_LOG_LEVEL": "warning", **os.environ}
    with log.open("wb") if log is not None else nullcontext(subprocess.PIPE) as told:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True, env=environment)
    server: Server | None = None
    try:
        server = Server(process, _summary(process), announcement)
        yield server
    finally:
        if server is not None:
            server.http.close()
        if process.returncode is None:
            process.kill()
            process.communicate()


def wait_gone(pids: list[int]) -> None:
    """Wait until these processes have ended, whosever children they are."""
    for pid in pids:
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([watched], [], [], WAIT_S)[0], f"process {pid} did not end"
        finally:
            os.close(watched)


def command_line(pid: int) -> str:
    """Return the command line of a process; empty when it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _summary(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if LAST_LINE in line:
            return text
    raise AssertionError(f"the server did not start: {process.communicate()[1]}")
