"""Loads and asks models that lie ready, one of every backend: run as a program whose system calls are watched."""

import pickle
import sys
import time
from pathlib import Path

import numpy as np

from limen.runtime.backends import backend
from limen.runtime.binding.binding import compile_binding

AT_REST_S = 2.0
"""How long a library has to start reporting in the background."""


def main(models: Path) -> None:
    for folder, manifest in pickle.loads(models.read_bytes()):
        model = backend(manifest.backend).load(folder, manifest)
        fields = {field.name: np.ones(4, np.float32) for field in manifest.contract.inputs}
        model.predict(compile_binding(manifest, model.signature).pack(fields), {})
    time.sleep(AT_REST_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
