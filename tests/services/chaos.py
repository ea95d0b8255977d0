"""What happens to servers in the field, done to one on purpose: processes end or stop, disks fill, files rot, releases move."""

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from limen.contracts.errors import LimenError
from tests.services.registry import World

STOPPED_S = 12.0
"""How long a process is stopped at most: what hangs is replaced before."""
FULL_S = 6.0
CONNECTIONS = 900
FACTORS = (1000.0, 2000.0)


class Chaos:
    """Faults for the server of a home; each leaves nothing behind that the server could not mend by itself."""

    def __init__(self, world: World, seed: int, *, is_small: bool) -> None:
        """Hurt the server of `world`; `is_small` says that its home is a file system of its own, which may be filled."""
        self._world = world
        self._home = world.folder / "home"
        self._random = random.Random(seed)
        self.faults: list[Callable[[], None]] = [
            self.kill_replica,
            self.kill_gateway,
            self.kill_control,
            self.stop_replica,
            self.stop_gateway,
            self.stop_control,
            self.press_descriptors,
            self.lose_run_folder,
            self.lose_packages,
            self.flip_a_bit,
            self.move_alias,
            self.roll,
        ]
        if is_small:
            self.faults.append(self.fill_the_disk)
        self._left: list[Callable[[], None]] = []

    def one(self) -> str:
        """Do one of them, each once before any comes again; return when, and its name."""
        if not self._left:
            self._left = self._random.sample(self.faults, len(self.faults))
        fault = self._left.pop()
        at = time.strftime("%X")
        fault()
        return f"{at} {fault.__name__}"

    def kill_replica(self) -> None:
        self._signal("replica", signal.SIGKILL)

    def kill_gateway(self) -> None:
        self._signal("gateway", signal.SIGKILL)

    def kill_control(self) -> None:
        self._signal("control", signal.SIGKILL)

    def stop_replica(self) -> None:
        self._stop("replica")

    def stop_gateway(self) -> None:
        self._stop("gateway")

    def stop_control(self) -> None:
        self._stop("control")

    def press_descriptors(self) -> None:
        """Hold more connections than a gateway has descriptors for."""
        host, _, port = self._world.server.announced["http"].rpartition(":")
        held = []
        with suppress(OSError):
            held.extend(socket.create_connection((host, int(port)), 0.2) for _ in range(CONNECTIONS))
        time.sleep(2)
        for connection in held:
            connection.close()

    def lose_run_folder(self) -> None:
        for folder in (self._home / "run").iterdir():
            shutil.rmtree(folder, ignore_errors=True)

    def lose_packages(self) -> None:
        shutil.rmtree(self._home / "packages", ignore_errors=True)
        self.kill_replica()

    def flip_a_bit(self) -> None:
        """Change a weight of every unpacked model, and have its replica start again."""
        for path in (self._home / "packages").rglob("model.onnx"):
            with suppress(OSError):
                content = bytearray(path.read_bytes())
                at = max(content.find(struct.pack("<f", factor)) for factor in FACTORS)
                content[at + 2] ^= 0x40
                path.chmod(0o600)
                path.write_bytes(content)
        self.kill_replica()

    def move_alias(self) -> None:
        # Control may be away just now; then nothing moves.
        with suppress(LimenError):
            (champion,) = self._world.management.aliases("steady").items
            self._world.management.set_alias("steady", "champion", 3 - champion.version)

    def roll(self) -> None:
        self._world.server.process.send_signal(signal.SIGHUP)

    def fill_the_disk(self) -> None:
        ballast = self._home / "ballast"
        with ballast.open("ab", buffering=0) as file:
            for size in (65536, 512, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        time.sleep(FULL_S)
        ballast.unlink()

    def _signal(self, kind: str, number: int) -> int:
        found = self._world.server.children(kind)
        if not found:
            return 0
        pid = self._random.choice(found)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        return pid

    def _stop(self, kind: str) -> None:
        """Stop a process until it is replaced, or for as long as it takes to know that nobody does."""
        pid = self._signal(kind, signal.SIGSTOP)
        end = time.monotonic() + STOPPED_S
        while pid in self._world.server.children(kind) and time.monotonic() < end:
            time.sleep(0.1)
        if pid in self._world.server.children(kind):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Make a folder a file system of 128 MiB until the block ends; gives False where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(folder)]
    is_small = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield is_small
    finally:
        if is_small:
            subprocess.run(["umount", "-l", str(folder)], check=False)
