"""Runs `limen` commands as forks of one process that has imported what they need, so that a hundred commands cost one start.

Each command is a process of its own with its own folder, environment and output, as it is for people; only its interpreter is not
started anew. How that goes is tested where it matters (`tests/acceptance/test_traps.py`, `test_cli_package.py`).
"""

import atexit
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

_runner: socket.socket | None = None


def run(arguments: list[str], cwd: Path | None, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Raises:
        subprocess.TimeoutExpired: it took too long, and was killed.
    """
    command = ["limen", *arguments]
    asked = {"arguments": arguments, "cwd": str(cwd or Path.cwd()), "environment": dict(os.environ)}
    mine, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, mine:
        with theirs:
            socket.send_fds(_connection(), [b"\1"], [theirs.fileno(), out.fileno(), err.fileno()])
        pid = _number(mine)
        with mine.makefile("wb") as told:
            told.write(json.dumps(asked).encode() + b"\n")
        mine.settimeout(timeout_s)
        try:
            status = _number(mine)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, timeout_s) from None
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, status, out.read().decode(), err.read().decode())


def _number(connection: socket.socket) -> int:
    return int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big", signed=True)


def _connection() -> socket.socket:
    """Start the process that is forked, once for each process that runs tests."""
    global _runner
    if _runner is None:
        _runner, theirs = socket.socketpair()
        # One thread: a fork has no others.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", __file__, str(theirs.fileno())]
        with theirs:
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment)
        atexit.register(_end, _runner, process)
    return _runner


def _end(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    connection.close()
    process.wait()


def main(connection: socket.socket) -> None:
    """Fork a process for each command until nobody is there to ask for one."""

    gc.freeze()
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    selector.unregister(key.fd)
                    _report(*key.data, pidfd=key.fd)
                    continue
                asked, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
                if not asked:
                    return
                pid = os.fork()
                if pid == 0:
                    _command(*descriptors)
                caller = socket.socket(fileno=descriptors[0])
                for descriptor in descriptors[1:]:
                    os.close(descriptor)
                caller.sendall(pid.to_bytes(4, "big", signed=True))
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, caller))


def _report(pid: int, caller: socket.socket, *, pidfd: int) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    with caller:
        caller.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))


def _command(caller: int, out: int, err: int) -> None:
    """Be the command; never returns."""
    with socket.socket(fileno=caller) as asking, asking.makefile("rb") as lines:
        asked = json.loads(lines.readline())
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, 1 << 16)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    sys.argv = [sys.argv[0], *asked["arguments"]]
    from limen.cli import main as run

    status = 0
    try:
        run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
