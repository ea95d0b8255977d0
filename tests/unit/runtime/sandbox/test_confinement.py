"""What a confined process can still do, tried in processes of their own, with all of the kernel's means and with each of them alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from limen.runtime.sandbox import landlock
from limen.runtime.sandbox.child import model_environment
from limen.runtime.sandbox.confinement import not_contained

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces, Landlock and seccomp are Linux's")
HAS_LANDLOCK = pytest.mark.skipif(landlock.version() < 3, reason="this kernel has no Landlock")
TRY = """
import ctypes, mmap, os, signal, socket, subprocess, sys, threading
folder = sys.argv[1]

def over():
    with open(folder + "/kept", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:4] = b"oops"

def write(path):
    open(path, "w").close()

def thread():
    started = threading.Thread(target=lambda: None)
    started.start()
    started.join()

libc = ctypes.CDLL(None, use_errno=True)
DEEDS = dict(
    map=over,
    write=lambda: write(folder + "/new"),
    append=lambda: open(folder + "/kept", "a").close(),
    unlink=lambda: os.unlink(folder + "/victim"),
    rename=lambda: os.rename(folder + "/other", folder + "/moved"),
    mkdir=lambda: os.mkdir(folder + "/made"),
    symlink=lambda: os.symlink("/etc", folder + "/link"),
    hardlink=lambda: os.link(folder + "/kept", folder + "/hard"),
    fifo=lambda: os.mkfifo(folder + "/fifo"),
    truncate=lambda: os.truncate(folder + "/kept", 0),
    chmod=lambda: os.chmod(folder + "/kept", 0o777),
    utime=lambda: os.utime(folder + "/kept", (1, 1)),
    xattr=lambda: os.setxattr(folder + "/kept", "user.x", b"1"),
    shm=lambda: write("/dev/shm/limen-test"),
    read=lambda: open(folder + "/kept").read(),
    list=lambda: os.listdir(folder),
    parent=lambda: open(f"/proc/{PARENT}/environ", "rb").read(),
    unix=lambda: socket.socket(socket.AF_UNIX).connect(folder + "/socket"),
    tcp=lambda: socket.create_connection(("127.0.0.1", 9), 1),
    fork=lambda: os.fork() or os._exit(0),
    exec=lambda: subprocess.run(["/bin/true"], check=True),
    session=os.setsid,
    signal=lambda: os.kill(PARENT, 0),
    namespace=lambda: libc.unshare(0x10000000) and 1 / 0,
    ring=lambda: libc.syscall(425, 1, None) < 0 and 1 / 0,
    trace=lambda: libc.ptrace(0x4206, PARENT, 0, 0) and 1 / 0,  # PTRACE_SEIZE: attaching would stop the parent, at times for good
    limits=lambda: __import__("resource").prlimit(PARENT, 7),
    own=lambda: (thread(), len(open("/proc/self/maps").read()), socket.socketpair(), os.kill(os.getpid(), 0)),
    null=lambda: write("/dev/null"),
    library=lambda: __import__("sqlite3"),
)

def able():
    found = set()
    for name, deed in DEEDS.items():
        try:
            deed()
        except (OSError, ZeroDivisionError):
            continue
        found.add(name)
    return found
"""
CHANGES = {
    *(
        "map",
        "write",
        "append",
        "unlink",
        "rename",
        "mkdir",
        "symlink",
        "hardlink",
        "fifo",
        "truncate",
        "chmod",
        "utime",
    ),
    *("xattr", "shm"),
}
READS = {"read", "list"}
TALKS = {"unix", "tcp"}
STARTS = {"fork", "exec", "session"}
OTHERS = {"parent", "signal", "trace", "limits"}
HARMLESS = {"own", "null", "library"}
PREPARE = """
import os
PARENT = os.getppid()
from limen.runtime.sandbox import isolation
from limen.runtime.sandbox import confinement, landlock, namespaces, seccomp
from limen.runtime.sandbox.system_calls import FILES, MACHINE, PROCESSES, SOCKETS
from pathlib import Path
"""
ALL = """
held = namespaces.leave(mounts=True, processes=True)
namespaces.split(own_processes="own-processes" in held)
held += isolation.forbid_new_privileges() + namespaces.make_read_only() + isolation.drop_capabilities()
held += confinement.confine_to_libraries()
"""


def program(confine: str) -> str:
    return f"{PREPARE}{confine}\n{TRY}\nprint(*sorted(able()))"


def run(confine: str, folder: Path, **options) -> set[str]:
    """Return what can be done after `confine`."""
    (folder / "kept").write_text("kept as it is")
    (folder / "victim").write_text("")
    (folder / "other").write_text("")
    command = [sys.executable, "-P", "-c", program(confine), str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=model_environment(1), **options
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.fixture
def folder(tmp_path_factory) -> Path:
    """Where everybody may do everything, so that it is the confinement that refuses."""
    found = tmp_path_factory.mktemp("open")
    found.chmod(0o777)
    return found


def test_without_confinement_nearly_everything_can_be_done(folder):
    assert run("", folder) >= {"map", "write", "unlink", "mkdir", "chmod", "read", "fork", "exec"} | HARMLESS


def test_untrusted_code_keeps_the_libraries_and_itself(folder):
    assert run(ALL, folder) == HARMLESS
    assert (folder / "kept").read_text() == "kept as it is"
    assert sorted(p.name for p in folder.iterdir()) == ["kept", "other", "victim"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_the_same_without_privileges(folder):
    as_user = "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    assert run(as_user + ALL, folder) == HARMLESS


@HAS_LANDLOCK
def test_landlock_alone_keeps_files_as_they_are_and_unread(folder):
    able = run(
        "isolation.forbid_new_privileges(); assert landlock.restrict([Path(p) for p in sys.path if p] + [Path('/usr'), Path('/lib'), Path('/proc/self'), Path(sys.base_prefix)], [Path('/dev/null')])".replace(
            "isolation", "import sys; isolation", 1
        ),
        folder,
    )
    # What it does not cover is the system-call filter's.
    assert able & (CHANGES - {"chmod", "utime", "xattr"}) == set()
    assert not able & (READS | {"parent", "trace"})
    assert able >= HARMLESS


def test_read_only_mounts_alone_keep_files_as_they_are(folder):
    confine = (
        "held = namespaces.leave(mounts=True)\nassert namespaces.make_read_only(), held\nisolation.drop_capabilities()"
    )
    able = run(confine, folder)
    assert not able & CHANGES
    assert able >= HARMLESS | READS


def test_the_filter_of_system_calls_alone_leaves_no_sockets_processes_or_renamed_files(folder):
    confine = "isolation.forbid_new_privileges(); assert seccomp.forbid((MACHINE, SOCKETS, PROCESSES, FILES), processes=False)"
    able = run(confine, folder)
    assert not able & (TALKS | STARTS | OTHERS - {"parent"} | {"namespace", "ring"})
    assert not able & (CHANGES - {"map", "write", "append", "shm", "truncate"} | {"truncate"})
    assert able >= HARMLESS


@HAS_LANDLOCK
def test_a_model_in_a_native_format_writes_to_its_scratch_folder_and_talks_to_nobody(folder, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    confine = f"isolation.forbid_new_privileges(); isolation.drop_capabilities(); confinement.confine_to_scratch([Path({str(scratch)!r})])"
    able = run(confine + f"\nopen({str(scratch / 'x')!r}, 'w').close()", folder)
    assert not able & (CHANGES - {"chmod", "utime", "xattr"})
    assert able & (TALKS | OTHERS) == set()
    assert able >= HARMLESS | READS | {"exec", "fork"}
    assert (scratch / "x").exists()


@HAS_LANDLOCK
def test_trusted_code_keeps_its_files_and_leaves_other_processes_alone(folder):
    able = run(
        "isolation.forbid_new_privileges(); isolation.drop_capabilities(); confinement.confine_from_others()", folder
    )
    assert able >= HARMLESS | READS | CHANGES - {"xattr"} | {"exec", "fork", "session"}
    assert not able & {"parent", "trace"}


LEAVE_BEHIND = """
import os, signal, sys, time
heard, tell = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(os.readlink("/proc/self"), flush=True)
        os.write(tell, b".")
        time.sleep(1000)
    os.wait()
    os.read(heard, 1)
"""


@pytest.mark.parametrize("means", ["namespace", "search"])
@pytest.mark.parametrize("end", ["by itself", "told", "killed"])
def test_nothing_that_was_started_outlives_its_process(means, end):
    """Sessions and groups of its own do not help a descendant; where there is no namespace it is looked for."""
    begin = "held = namespaces.leave(processes=True)" if means == "namespace" else "held = []"
    confine = f"{begin}\nnamespaces.split(own_processes='own-processes' in held)"
    last = "" if end == "by itself" else "time.sleep(1000)"
    source = f"{PREPARE}{confine}\n{LEAVE_BEHIND}\nprint('left', flush=True)\n{last}"
    with subprocess.Popen([sys.executable, "-P", "-c", source], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = []
        for line in process.stdout:
            if line == "left\n":
                break
            pids.append(int(line))
        if end == "told":
            process.terminate()
        elif end == "killed":
            if means == "search":
                process.terminate()
                process.wait(60)
            process.kill()
        process.wait(60)
        assert len(pids) == 3
        for pid in pids:
            assert _is_gone(pid)


def _is_gone(pid: int) -> bool:
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    import select

    try:
        return bool(select.select([watched], [], [], 60)[0])
    finally:
        os.close(watched)


@pytest.mark.parametrize(
    ("end", "status"),
    [("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", -9), ("ctypes.string_at(0)", -11), ("pass", 0)],
)
@pytest.mark.parametrize("begin", ["namespaces.leave(processes=True)", "[]"])
def test_the_status_is_that_of_the_child(begin, end, status):
    source = f"{PREPARE}import ctypes, signal, sys\nheld = {begin}\nnamespaces.split(own_processes='own-processes' in held)\n{end}"
    done = subprocess.run([sys.executable, "-P", "-c", source], capture_output=True, timeout=60, check=False)
    expected = {status, -signal.SIGSEGV} if status < 0 else {status}
    assert done.returncode in expected, done.stderr


def test_what_is_not_contained_is_said():
    assert not_contained(["landlock", "seccomp", "own-processes"]) == []
    assert not_contained(["read-only", "seccomp"]) == ["reading your files"]
    assert not_contained([]) == [
        "changing your files",
        "reading your files",
        "connecting to Unix sockets",
        "leaving processes behind",
    ]
