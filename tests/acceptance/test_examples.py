"""Every example does what its README says, through the real command and a real server."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.acceptance.example_server import post, printed, run, serving

Step = tuple[str, str]
"""A command of a README and the output printed there."""

_VARIES = ((r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"), (r"\d+\.\d+ ms", "TIME"), (r"Limen \S+ is", "Limen VERSION is"))


def console(readme: Path) -> list[Step]:
    """Return the commands in a README's console blocks, with their output."""
    blocks = re.findall(r"```console\n(.*?)```", readme.read_text(), re.DOTALL)
    commands = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part]
    return [(command, output) for command, _, output in (part.partition("\n") for part in commands)]


def fixed(output: str) -> list[str]:
    """Return an output with what differs from run to run replaced, and blank lines left out."""
    for pattern, word in _VARIES:
        output = re.sub(pattern, word, output)
    return [line.rstrip() for line in output.splitlines() if line.strip()]


def near(text: str) -> Any:
    """Return a number of a README as what equals any number close to it."""
    return pytest.approx(float(text), abs=1e-3)


def test_the_iris_readme_says_what_happens(tmp_path: Path, repository: Path) -> None:
    """Its commands are run one after the other, and each prints what the README shows."""
    example = repository / "examples" / "iris"
    for name in ("README.md", "train.py"):
        shutil.copy(example / name, tmp_path)
    *preparing, (serve, serve_output), (curl, curl_output) = console(example / "README.md")
    assert [shlex.split(command)[:2] for command, _ in preparing] == [
        ["python", "train.py"],
        ["limen", "init"],
        ["limen", "check"],
    ]
    for command, output in preparing:
        assert fixed(run(shlex.split(command), tmp_path)) == fixed(output)

    program, verb, *packages = shlex.split(serve)
    assert (program, verb) == ("limen", "serve")
    with serving(*packages, folder=tmp_path) as server:
        assert fixed(printed(server["log"])) == fixed(serve_output)
        _, url, *_, body = shlex.split(curl)
        answer = post(url.replace("127.0.0.1:8000", server["http"]), json.loads(body))
    # Solvers take other steps on other processors; the last digits are theirs.
    assert json.loads(curl_output, parse_float=near) == answer


@pytest.mark.slow
def test_the_credit_package_is_the_same_each_time_it_is_trained_and_is_fit_to_serve(
    tmp_path: Path, repository: Path
) -> None:
    train = repository / "examples" / "credit" / "train.py"
    digests = []
    for name in ("first", "second"):
        printed = run([sys.executable, train, name], tmp_path)
        built = run(["limen", "build", name, "--output", f"{name}-archive"], tmp_path)
        digests.append(built.split()[-1])
    assert digests[0] == digests[1]
    assert "9,857 loans, 5.2% of them bad" in printed
    assert "first is fit to serve" in run(["limen", "check", "first"], tmp_path)


@pytest.fixture(scope="module")
def file_types(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Any:
    """Serve both packages of the magika example."""
    folder = tmp_path_factory.mktemp("magika")
    run([sys.executable, repository / "examples" / "magika" / "prepare.py", "packages"], folder)
    with serving("packages/magika", "packages/filetype", "--trust-code", folder=folder) as server:
        yield server | {"packages": folder / "packages"}


def contents(repository: Path, packages: Path) -> dict[str, bytes]:
    """Return contents of many kinds: real files, and those at the edges of what the model can see."""
    files = [
        repository / "README.md",
        repository / "Makefile",
        repository / "uv.lock",
        repository / "docs" / "assets" / "overview.svg",
        packages / "magika" / "model.onnx",
        packages / "filetype" / "model.py",
        packages / "filetype" / "settings.json",
        Path(sys.executable).resolve(),
    ]
    edges = {
        "nothing": b"",
        "seven bytes": b"1234567",
        "eight bytes": b"12345678",
        "seven bytes that are no text": bytes(range(250, 257 - 1)) + b"\xff",
        "white space": b" \n" * 5000,
        "white space around a word": b" " * 3000 + b"word" + b" " * 3000,
        "one block": b"0123456789abcdef" * 256,
        "noise": np.random.default_rng(1).bytes(20_000),
    }
    return {path.name: path.read_bytes() for path in files} | edges


def test_filetype_answers_as_the_magika_library_does(file_types: Any, repository: Path) -> None:
    from magika import Magika

    found = contents(repository, file_types["packages"])
    instances = [{"content": base64.b64encode(content).decode()} for content in found.values()]
    answer = post(f"http://{file_types['http']}/v1/models/filetype:predict", {"instances": instances})
    library = Magika()
    expected = {name: library.identify_bytes(content) for name, content in found.items()}
    labels = dict(zip(found, (row["label"] for row in answer["predictions"]), strict=True))
    assert labels == {name: str(result.output.label) for name, result in expected.items()}
    scores = [row["score"] for row in answer["predictions"]]
    assert scores == pytest.approx([result.score for result in expected.values()], abs=1e-5)


def test_the_raw_magika_model_names_its_best_classes(file_types: Any) -> None:
    """Tokens in; the most probable label, and by the classification extension the three best with their names."""
    content = (file_types["packages"] / "filetype" / "model.py").read_bytes()
    head, tail = content[:4096].strip()[:1024], content[-4096:].strip()[-1024:]
    tokens = [*head, *[256] * (1024 - len(head)), *[256] * (1024 - len(tail)), *tail]
    answer = post(
        f"http://{file_types['http']}/v2/models/magika/infer",
        {
            "inputs": [{"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": tokens}],
            "outputs": [{"name": "label"}, {"name": "probabilities", "parameters": {"classification": 3}}],
        },
    )
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    assert outputs["label"] == ["python"]
    assert len(outputs["probabilities"]) == 3
    probability, _, name = outputs["probabilities"][0].split(":")
    assert (name, float(probability) > 0.9) == ("python", True)


def test_the_magika_client_compares_with_the_library(file_types: Any, repository: Path, tmp_path: Path) -> None:
    client = repository / "examples" / "magika" / "ask.py"
    printed = run([sys.executable, client, "--server", file_types["http"], repository / "README.md"], tmp_path)
    assert re.fullmatch(r"README.md +markdown +\d\.\d{3}  as the library\n", printed)


def test_the_magika_server_goes_on_after_a_bad_request(file_types: Any) -> None:
    url = f"http://{file_types['http']}/v1/models/filetype:predict"
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(url, {"instances": [{"content": "not base64!"}]})
    assert refused.value.code == 400
    assert json.load(refused.value)["details"][0]["path"] == "instances[0].content"
    assert post(url, {"instances": [{"content": ""}]})["predictions"] == [{"label": "empty", "score": 1.0}]
