"""A package whose requests say what is to go wrong, for the suites of the process placement."""

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
