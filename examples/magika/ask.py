"""Asks a server what kind of files these are, and compares with the `magika` library.

python examples/magika/ask.py [--server 127.0.0.1:8000] FILE...
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import urllib.request
from pathlib import Path

from magika import Magika


def main() -> int:
    """Print a line for each file; return 1 when the server and the library differ."""
    parser = argparse.ArgumentParser(description="Asks a server what kind of files these are.")
    parser.add_argument("--server", default="127.0.0.1:8000")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()

    contents = [path.read_bytes() for path in options.files]
    body = json.dumps({"instances": [{"content": base64.b64encode(content).decode()} for content in contents]})
    request = urllib.request.Request(
        f"http://{options.server}/v1/models/filetype:predict", body.encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answers = json.load(response)["predictions"]

    library = Magika()
    differences = 0
    for path, content, answer in zip(options.files, contents, answers, strict=True):
        expected = library.identify_bytes(content)
        is_same = answer["label"] == expected.output.label and abs(answer["score"] - expected.score) < 1e-5
        verdict = "as the library" if is_same else f"BUT the library: {expected.output.label} {expected.score:.3f}"
        print(f"{path.name:<24} {answer['label']:<12} {answer['score']:.3f}  {verdict}")
        differences += not is_same
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
