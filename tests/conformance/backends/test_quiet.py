"""No backend reports its use: no packet leaves, and nothing is written outside the folder it was given."""

import os
import pickle
import re
import shutil
import subprocess
import sys

import pytest

from limen.runtime.sandbox.child import python, start
from limen.runtime.sandbox.quiet import SILENT
from tests.conformance.backends.conftest import MAKERS, make_onnx
from tests.services import every_backend

WATCHED = "trace=socket,connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,rename,renameat2,link,symlink"
# With the filter the program stops at these calls only, and not at every one.
TRACE = ("strace", "--seccomp-bpf", "-f", "-qq", "-e", WATCHED)
NETWORK = re.compile(r"socket\(AF_INET|connect\(|send(to|msg|mmsg)\(")
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|\b(mkdir|rename|link|symlink)\w*\(")
HARMLESS = re.compile(r'"/(dev|proc)/')


def can_trace() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([*TRACE, "-o", os.devnull, "true"], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not can_trace(), reason="needs strace, and the right to trace")
def test_no_backend_sends_a_packet_or_writes_outside_its_home(built, tmp_path):
    home, models, seen = tmp_path / "home", tmp_path / "models", tmp_path / "calls"
    home.mkdir()
    cases = [built(maker) for maker in MAKERS]
    models.write_bytes(pickle.dumps([(case.folder, case.manifest) for case in cases]))
    environment = {n: t for n, t in os.environ.items() if n not in SILENT}
    environment |= {"HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    program = [sys.executable, every_backend.__file__, str(models)]
    command = [*TRACE, "-o", str(seen), *program]
    subprocess.run(command, env=environment, check=True, timeout=300)
    lines = [line for line in seen.read_text(errors="replace").splitlines() if "= -1" not in line]
    assert [line for line in lines if NETWORK.search(line)] == []
    written = [line for line in lines if WRITES.search(line) and not HARMLESS.search(line)]
    assert written == []
    assert list(home.iterdir()) == []


def test_no_process_of_a_server_lets_a_library_report_its_use(monkeypatch):
    for name in SILENT:
        monkeypatch.setenv(name, "0")
    shown = "import json, os; print(json.dumps(dict(os.environ)))"
    for environment in (None, {"PATH": os.environ["PATH"], "ORT_DISABLE_TELEMETRY": "0"}):
        child = start((*python("limen")[:-1], shown), environment)
        told, _ = child.communicate(timeout=60)
        for name, text in SILENT.items():
            assert f'"{name}": "{text}"' in told.decode()


def test_a_model_that_is_loaded_in_this_process_is_quiet_too(built, monkeypatch):
    for name in SILENT:
        monkeypatch.delenv(name, raising=False)
    built(make_onnx).load().close()
    assert {name: os.environ.get(name) for name in SILENT} == SILENT
