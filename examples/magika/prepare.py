"""Makes two packages from the file-type model that the installed `magika` library brings; nothing of it is kept here.

    python examples/magika/prepare.py DIR

DIR/magika is the model served from its own file: tokens in, one probability for each of 214 file types out. DIR/filetype is a
Python class around it that takes whole files, and cuts and judges them as the library does.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import magika

HERE = Path(__file__).parent
LIBRARY = Path(magika.__file__).parent
MODEL = LIBRARY / "models" / "standard_v3_3"


def prepare(folder: Path) -> None:
    """Write both package folders."""
    config = json.loads((MODEL / "config.min.json").read_text())
    types = json.loads((LIBRARY / "config" / "content_types_kb.min.json").read_text())
    labels = config["target_labels_space"]

    raw = folder / "magika"
    raw.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(MODEL / "model.onnx", raw / "model.onnx")
    template = (HERE / "magika.yaml").read_text()
    (raw / "model.yaml").write_text(template.replace("LABELS", json.dumps(labels)))

    code = folder / "filetype"
    shutil.copytree(HERE / "filetype", code, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(MODEL / "model.onnx", code / "model.onnx")
    settings = {
        "labels": labels,
        "text": sorted(name for name, facts in types.items() if facts["is_text"]),
        "renamed": config["overwrite_map"],
        "thresholds": config["thresholds"],
        "threshold": config["medium_confidence_threshold"],
    }
    (code / "settings.json").write_text(json.dumps(settings, indent=1) + "\n")
    print(f"{raw}/ and {code}/: {len(labels)} file types, model from magika {magika.__version__}")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
