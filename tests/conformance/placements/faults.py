"""A package whose requests say what is to go wrong, for the suites of the process placement."""

import asyncio
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from limen.contracts.inference import InferenceRequest
from limen.packaging.archive.package import Package, open_package

FAIL, DIE, HANG, HOG = -1.0, -2.0, -3.0, -4.0
"""Rows that raise, kill the process, never end, and take a gibibyte."""
MEMORY_MB = 400

MANIFEST = """
name: faults
backend: python
artifact: model.py:Faults
inputs:
  - {name: x, type: float32}
outputs:
  - {name: x, type: float32}
  - {name: pid, type: int64}
  - {name: rows, type: int64}
"""
CODE = """
import fcntl, os, signal, socket
import numpy as np

KEPT = []

class Faults:
    def load(self, path):
        self.path = path

    def predict(self, inputs, parameters):
        x = inputs["x"]
        if gate := parameters.get("gate"):
            open(gate + ".entered", "w").close()
            with open(gate, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
        for value in x.tolist():
            if value == -1:
                raise RuntimeError("marker-7f3a")
            if value == -2:
                os.kill(os.getpid(), signal.SIGKILL)
            while value == -3:
                pass
            if value == -4:
                np.ones(1 << 27)
        if kib := parameters.get("leak"):
            KEPT.append(np.ones(kib << 7))
        if address := parameters.get("connect"):
            with socket.socket() as found:
                found.settimeout(2)
                found.connect(("127.0.0.1", address))
        return {"x": x, "pid": np.full(len(x), os.getpid()), "rows": np.full(len(x), len(x))}

    def stream(self, inputs, parameters):
        try:
            for n in range(int(inputs["x"][0])):
                if n == parameters.get("die_at"):
                    os.kill(os.getpid(), signal.SIGKILL)
                yield self.predict({"x": np.array([n], np.float32)}, parameters)
        finally:
            (self.path / "stopped").touch()

    def close(self):
        (self.path / "closed").touch()
"""


def faults(folder: Path, extra: str = "") -> Package:
    """Write the package."""
    package = folder / "faults"
    package.mkdir()
    (package / "model.yaml").write_text(MANIFEST + extra)
    (package / "model.py").write_text(CODE)
    return open_package(package, folder / "home")


def row(value: float = 1.0, **parameters: object) -> InferenceRequest:
    """Return a request of one row."""
    return InferenceRequest("faults", {"x": np.array([value], np.float32)}, "1", "", parameters, rows=1)


class Gate:
    """A file that the model waits for."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._entered = path.with_name(path.name + ".entered")
        self._file = path.open("wb")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    async def entered(self) -> None:
        """Return when a model waits."""
        await until(self._entered.exists)

    def open(self) -> None:
        """Let everyone go on; harmless when it is open."""
        self._file.close()


@contextmanager
def closed_gate(folder: Path) -> Iterator[Gate]:
    """Hold a gate that opens at the end of the block."""
    gate = Gate(folder / "gate")
    try:
        yield gate
    finally:
        gate.open()


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Return when a condition holds; it is about other processes, so nobody tells."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
