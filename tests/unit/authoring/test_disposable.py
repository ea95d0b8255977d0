"""Work with a model in a process of its own: what comes back, and what is said when the process does not end well."""

import sys
from pathlib import Path

import msgspec
import pytest

from limen.authoring import disposable
from limen.authoring.workbench import described
from limen.contracts.errors import InvalidPackage, Reason
from limen.runtime.predictor import Signature
from tests.services.packages import write_iris


def program(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Have another program stand for the process."""
    monkeypatch.setattr(disposable, "python", lambda module: (sys.executable, "-P", "-c", source))


def refusal(tmp_path: Path) -> InvalidPackage:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(InvalidPackage) as caught:
        described(tmp_path / "model.onnx", "onnx", None)
    return caught.value


def test_an_artifact_is_described_in_a_process_of_its_own(tmp_path):
    package = write_iris(tmp_path / "iris")
    found = described(package / "model.onnx", "onnx", None)
    assert isinstance(found, Signature)
    assert [tensor.name for tensor in found.inputs] == ["x"]


def test_what_the_backend_says_of_a_bad_file_is_what_is_said(tmp_path):
    assert "onnx" in refusal(tmp_path).message.lower()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import ctypes; ctypes.string_at(0)", "the library that reads the model crashed (SIGSEGV)"),
        ("import os; os.abort()", "the library that reads the model crashed (SIGABRT)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed; the machine may be out of memory"),
        ("raise SystemExit(3)", "ended with status 3 and did not finish"),
        ("pass", "ended with status 0 and did not finish"),
        ("print('hello')", "did not finish"),
        ("import os; os.write(1, b'\\0' * 8 + b'x' * 99)", "did not finish"),
    ],
)
def test_a_process_that_does_not_end_well_is_one_line(source, text, tmp_path, monkeypatch):
    program(monkeypatch, source)
    refused = refusal(tmp_path)
    assert text in refused.message
    assert refused.reason is Reason.REJECTED


def test_a_process_may_say_only_so_much(tmp_path, monkeypatch):
    monkeypatch.setattr(disposable, "MAX_SAID_BYTES", 1 << 16)
    program(monkeypatch, "import os\nwhile True: os.write(1, bytes(1 << 16))")
    assert "too large" in refusal(tmp_path).message


def test_what_it_complains_of_is_kept_to_its_end(tmp_path, monkeypatch, caplog):
    program(monkeypatch, "import sys; sys.stderr.write('x' * (1 << 20) + 'the end')")
    refusal(tmp_path)
    assert "the end" in caplog.text
    assert len(caplog.text) < 1 << 15


def test_what_is_said_must_be_of_its_type(tmp_path, monkeypatch):
    word = msgspec.msgpack.encode({"said": msgspec.msgpack.encode({"inputs": 1})})
    framed = len(word).to_bytes(8, "big") + word
    program(monkeypatch, f"import os; os.write(1, {framed!r})")
    assert "did not finish" in refusal(tmp_path).message
