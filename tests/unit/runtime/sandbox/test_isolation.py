"""What a replica gives up, tried in processes of their own."""

import os
import subprocess
import sys

import pytest

from limen.runtime.sandbox.child import model_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of it")
is_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
AS_USER = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
CONNECT = """
import socket
listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen()
address = listener.getsockname()
from pathlib import Path
from limen.runtime.sandbox import namespaces
held = namespaces.leave()
try:
    socket.create_connection(address, 2)
except OSError:
    print(held, "cut off")
else:
    print(held, "connected")
"""


def run(program: str) -> str:
    environment = model_environment(1)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_network_is_gone_exactly_when_it_says_so():
    assert run(CONNECT) in ("['no-network'] cut off", "[] connected")


@is_root
def test_without_privileges_too():
    program = "import encodings.idna, limen.runtime.sandbox.namespaces\n" + AS_USER + CONNECT
    assert run(program) in ("['no-network'] cut off", "[] connected")


@is_root
def test_root_becomes_nobody_when_the_folders_are_public_and_cannot_go_back():
    program = """
import os
from pathlib import Path
from limen.runtime.sandbox.isolation import become_nobody
print(become_nobody([Path("/usr")]), os.getresuid(), os.getgroups())
try:
    os.setuid(0)
except PermissionError:
    print("for good")
"""
    assert run(program) == f"['uid'] {(NOBODY,) * 3} []\nfor good"


NOBODY = 65534


@is_root
def test_root_stays_when_nobody_could_not_read_the_package(tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    program = f"""
import os
from pathlib import Path
from limen.runtime.sandbox.isolation import become_nobody
print(become_nobody([Path("/usr"), Path({str(private)!r})]), os.getuid())
"""
    assert run(program) == "[] 0"


def test_blas_has_no_threads_until_it_is_told():
    program = """
import os
import numpy as np
from limen.runtime.sandbox.isolation import set_blas_threads
def threads():
    np.ones((600, 600)) @ np.ones((600, 600))
    return len(os.listdir("/proc/self/task"))
print(threads())
set_blas_threads(3)
print(os.environ["OPENBLAS_NUM_THREADS"], threads() in (1, 3))
"""
    assert run(program) == "1\n3 True"


def test_no_program_gets_new_privileges_and_no_capability_is_left():
    program = """
from limen.runtime.sandbox.isolation import drop_capabilities, forbid_new_privileges
held = forbid_new_privileges() + drop_capabilities()
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(held, lines["NoNewPrivs"].strip(), int(lines["CapEff"], 16), int(lines["CapPrm"], 16))
"""
    assert run(program) == "['no-new-privs', 'no-capabilities'] 1 0 0"


def test_memory_is_bounded_and_cores_are_as_many_as_asked_for():
    program = """
import os, resource
import numpy as np
from limen.runtime.sandbox.allocator import keep_buffers
from limen.runtime.sandbox.isolation import limit_resources
keep_buffers(300)
limit_resources(300, 1)
print(len(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_CORE))
np.ones(100 << 17)
try:
    np.ones(400 << 17)
except MemoryError:
    print("bounded")
"""
    assert run(program) == "1 (0, 0)\nbounded"
