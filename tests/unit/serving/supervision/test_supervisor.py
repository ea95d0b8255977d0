"""The supervisor and its keepers, with processes that are a line of Python each."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from limen.serving.messages.lines import Beat, ProcessPhase, ProcessSpec, ProcessState, Tell, Want, line
from limen.serving.supervision import child, supervisor
from limen.serving.supervision.child import MAX_MISSED_PAUSE_S, MAX_PAUSE_S, MIN_PAUSE_S, STEADY_S, Keeper, next_pause
from limen.serving.supervision.supervisor import ControlFailedError, Supervisor

WAIT_S = 60
READY = '{"ready":{}}'
GOOD = f"import sys; sys.stdin.readline(); print('{READY}', flush=True); sys.stdin.read()"
"""Says that it is ready and stays until its standard input closes."""
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    f"print('{READY}', flush=True); signal.pause(); signal.pause()"
)
ECHO = f"import sys; print('{READY}', flush=True)\nfor said in sys.stdin: print(said, end='', flush=True)"
"""A control process that says what it is told to say, and tells everything else."""


def spec(name: str, program: str = GOOD, kind: str = "replica", **changes) -> ProcessSpec:
    return ProcessSpec(name, kind, (sys.executable, "-S", "-c", program), "hello", **changes)


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(WAIT_S):
        while not is_so():  # noqa: ASYNC110  nothing tells when a process has been started
            await asyncio.sleep(0.001)


class Running:
    """A supervisor whose control process says nothing by itself."""

    def __init__(self, control: str = GOOD, silence_s: float = 0.0) -> None:
        self.told: list[bytes] = []
        self.states: list[ProcessState] = []
        self.supervisor = Supervisor(spec("control", control, "control", silence_s=silence_s), self.told.append)

    def kept(self, name: str) -> Keeper:
        return self.supervisor._keepers[name]

    def phase(self, name: str) -> ProcessPhase | None:
        kept = self.supervisor._keepers.get(name)
        return kept.state.phase if kept else None

    def pid(self, name: str) -> int:
        return self.kept(name).state.pid

    def want(self, *specs: ProcessSpec) -> None:
        self.supervisor._take(line(Want(specs)))

    async def until_running(self, *names: str) -> None:
        await until(lambda: all(self.phase(name) is ProcessPhase.RUNNING for name in names))


@asynccontextmanager
async def running(*specs: ProcessSpec, control: str = GOOD, silence_s: float = 0.0) -> AsyncIterator[Running]:
    """Run a supervisor with these processes, and stop it in order."""
    it = Running(control, silence_s)
    task = asyncio.create_task(it.supervisor.run())
    # As if control had said something already.
    it.supervisor._has_told = True
    await asyncio.sleep(0)
    it.want(*specs)
    await it.until_running(*(s.name for s in specs if s.argv[-1] in (GOOD, STUBBORN)))
    try:
        yield it
    finally:
        it.supervisor.stop()
        await asyncio.wait_for(task, WAIT_S)
    assert not any(is_alive(k.state.pid) for k in it.supervisor._all() if k.state.pid)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_what_is_wanted_runs_what_is_not_ends_and_the_rest_goes_on():
    async with running(spec("a"), spec("b")) as it:
        a, b = it.pid("a"), it.pid("b")
        it.want(spec("b"), spec("c"))
        await it.until_running("c")
        await until(lambda: not is_alive(a))
        assert it.pid("b") == b


async def test_processes_end_kind_by_kind_with_control_last():
    ended: list[str] = []
    async with running(spec("r"), spec("g", kind="gateway")) as it:
        real = it.supervisor._changed

        def changed(kept: Keeper) -> None:
            if kept.state.phase is ProcessPhase.ENDED:
                ended.append(kept.spec.kind)
            real(kept)

        for kept in it.supervisor._all():
            kept._on_change = changed
    assert ended == ["gateway", "replica", "control"]


async def test_a_process_reads_its_hello_first_and_its_own_environment(tmp_path):
    heard = tmp_path / "heard"
    program = (
        "import os, sys, pathlib;"
        f"pathlib.Path({str(heard)!r}).write_text(sys.stdin.readline() + os.environ['MARK']);"
        f"print('a library says hello'); print('{READY}', flush=True); sys.stdin.read()"
    )
    async with running(spec("a", program, environment={"MARK": "x"})) as it:
        await it.until_running("a")
        assert heard.read_text() == "hello\nx"


async def test_a_dead_process_is_replaced_and_counted(monkeypatch, caplog):
    monkeypatch.setattr(child, "MIN_PAUSE_S", 0.001)
    async with running(spec("a"), spec("b")) as it:
        a, b = it.pid("a"), it.pid("b")
        os.kill(a, 9)
        await until(lambda: it.pid("a") != a and it.phase("a") is ProcessPhase.RUNNING)
        assert (it.kept("a").state.restarts, it.pid("b")) == (1, b)
    assert "a ended with status -9; another starts in" in caplog.text


@pytest.mark.parametrize(
    ("program", "is_essential", "longest"), [(GOOD, False, 2.0), ("pass", False, 30.0), ("pass", True, 2.0)]
)
async def test_one_that_was_ready_or_is_essential_is_never_waited_for_long(program, is_essential, longest):
    kept = Keeper(spec("a", program, is_essential=is_essential), lambda _: None)
    task = asyncio.create_task(kept.run())
    await until(lambda: kept.state.phase in (ProcessPhase.RUNNING, ProcessPhase.PAUSED))
    assert kept._longest_pause() == longest
    kept.dismiss()
    await asyncio.wait_for(task, WAIT_S)


@pytest.mark.parametrize(("kind", "kills"), [("gateway", 1), ("replica", 1), ("gateway", 0)])
async def test_a_process_that_the_system_killed_for_want_of_memory_is_told_so(monkeypatch, caplog, kind, kills):
    counted = [5]
    monkeypatch.setattr(child.OomKills.__init__, "__defaults__", (lambda: counted[0],))
    async with running(spec("a", kind=kind)) as it:
        counted[0] += kills
        os.kill(it.pid("a"), 9)
        await until(lambda: bool(it.kept("a").state.restarts) and it.phase("a") is ProcessPhase.RUNNING)
        assert it.kept("a").state.is_oom is bool(kills)
    assert ("a was killed by the system for want of memory" in caplog.text) is bool(kills)


async def test_a_process_that_refuses_is_known_with_its_reason(monkeypatch):
    monkeypatch.setattr(child, "MIN_PAUSE_S", 60.0)
    refusing = 'print(\'{"failed":{"message":"no memory","reason":"INTERNAL"}}\', flush=True); input(); input()'
    async with running() as it:
        it.want(spec("a", refusing))
        await until(lambda: it.phase("a") is ProcessPhase.REFUSING)
        word = it.kept("a").state.word
        assert word is not None
        assert word.failed is not None
        assert word.failed.message == "no memory"


async def test_a_process_over_its_budget_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr(child, "MIN_PAUSE_S", 0.001)
    async with running(spec("a", "import sys; sys.exit(3)", budget=2)) as it:
        await until(lambda: it.phase("a") is ProcessPhase.ENDED)
        assert (it.kept("a").state.restarts, it.kept("a").state.status) == (2, 3)
    assert "a ended with status 3 once more and is given up" in caplog.text


async def test_a_process_that_is_not_to_be_restarted_is_not():
    async with running(spec("a", "import sys; sys.exit(3)", is_restarted=False)) as it:
        await until(lambda: it.phase("a") is ProcessPhase.ENDED)
        assert it.kept("a").state.restarts == 0


async def test_a_command_that_does_not_exist_is_tried_again_and_not_fatal(monkeypatch, caplog):
    monkeypatch.setattr(child, "MIN_PAUSE_S", 0.001)
    missing = ProcessSpec("a", "replica", ("/does/not/exist",))
    async with running(spec("b")) as it:
        it.want(spec("b"), missing)
        await until(lambda: it.kept("a").state.restarts > 1)
        assert it.phase("b") is ProcessPhase.RUNNING
    assert "a did not start (the process cannot be started: No such file or directory)" in caplog.text


def test_the_pause_grows_while_a_process_dies_young_and_starts_over_when_one_lived():
    pauses = [next_pause(0, 1)]
    while pauses[-1] < MAX_PAUSE_S:
        pauses.append(next_pause(pauses[-1], 1))
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert next_pause(MAX_PAUSE_S, 1) == MAX_PAUSE_S
    assert next_pause(MAX_PAUSE_S, STEADY_S + 1) == MIN_PAUSE_S
    # F01: one that is missed is back within five seconds and the time it takes to load.
    assert next_pause(MAX_PAUSE_S, 1, MAX_MISSED_PAUSE_S) == 2.0


async def test_a_process_that_does_not_stop_is_killed():
    async with running(spec("a", STUBBORN, stop_s=0.05)) as it:
        kept = it.kept("a")
    assert kept.state.status == -9


async def test_processes_do_not_get_the_terminals_signals():
    """A Ctrl-C reaches the whole foreground group; the supervisor alone may act on it."""
    async with running(spec("a")) as it:
        assert os.getsid(it.pid("a")) == it.pid("a")


# -- control ---------------------------------------------------------------------------------------------------------------


async def test_control_is_handed_the_set_and_what_became_of_it_when_it_starts_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "MIN_PAUSE_S", 0.001)
    heard = tmp_path / "heard"
    program = (
        f"import sys\nprint('{READY}', flush=True); sys.stdin.readline(); file = open({str(heard)!r}, 'a')\n"
        "for said in sys.stdin: file.write(said); file.flush()"
    )
    async with running(spec("a"), control=program) as it:
        a = it.pid("a")
        control = it.supervisor._control
        await until(lambda: control.state.phase is ProcessPhase.RUNNING)
        os.kill(control.state.pid, 9)
        await until(lambda: control.state.restarts == 1 and control.state.phase is ProcessPhase.RUNNING)
        await until(lambda: heard.read_text().count('"type":"resume"') == 2)
        last = [said for said in heard.read_text().splitlines() if '"resume"' in said][-1]
        resume = msgspec.json.decode(last)
        assert [s["name"] for s in resume["specs"]] == ["a"]
        assert {"name": "a", "phase": "running", "pid": a}.items() <= resume["states"][0].items()
        # Its death has touched nothing else.
        assert (it.pid("a"), it.kept("a").state.restarts) == (a, 0)


async def test_control_says_what_is_wanted_and_has_things_passed_on(caplog):
    want, told = Want((spec("a"),)), Tell(msgspec.Raw(b'{"to":"whoever"}'))
    program = f"import sys; print({READY!r}); print({(line(want) + line(told)).decode()!r} + 'nonsense', flush=True); sys.stdin.read()"
    it = Running(program)
    task = asyncio.create_task(it.supervisor.run())
    await it.until_running("a")
    await until(lambda: bool(it.told))
    assert it.told == [b'{"to":"whoever"}']
    await until(lambda: "control said something that is not understood" in caplog.text)
    it.supervisor.stop()
    await asyncio.wait_for(task, WAIT_S)


@pytest.fixture
def quick_looks(monkeypatch):
    """Silences that end within a test, each look a hundredth of a second."""
    monkeypatch.setattr(child, "MIN_PAUSE_S", 0.001)
    monkeypatch.setattr(supervisor, "LOOK_S", 0.01)


SAYS_ONE = f"import sys; print({READY!r}); print({line(Beat()).decode()!r}, end='', flush=True); sys.stdin.read()"
"""Says that it is ready, and once that it goes on."""


@pytest.mark.usefixtures("quick_looks")
async def test_control_that_goes_silent_is_started_again_and_the_others_go_on(caplog):
    async with running(spec("a"), control=SAYS_ONE, silence_s=10.0) as it:
        a, control = it.pid("a"), it.supervisor._control
        await until(lambda: control.state.restarts > 1)
        assert (it.pid("a"), it.kept("a").state.restarts) == (a, 0)
        assert control.state.hangs >= control.state.restarts
    assert "control does not go on and is killed" in caplog.text
    assert "control ended with status -9; another starts" in caplog.text


@pytest.mark.usefixtures("quick_looks")
async def test_a_gateway_that_is_stopped_is_replaced_and_the_others_go_on():
    says_always = (
        f"import sys, time; print({READY!r}, flush=True)\n"
        f"while True: print({line(Beat()).decode()!r}, end='', flush=True); time.sleep(0.005)"
    )
    gateways = [spec(name, says_always, "gateway", silence_s=30.0) for name in ("g1", "g2")]
    async with running(*gateways, spec("a")) as it:
        await it.until_running("g1", "g2")
        await until(lambda: it.kept("g1").beats > 0)
        pid, others = it.pid("g1"), (it.pid("g2"), it.pid("a"))
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: it.pid("g1") != pid and it.phase("g1") is ProcessPhase.RUNNING)
        assert not is_alive(pid)
        assert (it.kept("g1").state.hangs, it.kept("g2").state.hangs) == (1, 0)
        assert (it.pid("g2"), it.pid("a")) == others


async def test_control_that_dies_before_it_has_said_anything_ends_the_server():
    it = Running("import sys; sys.exit(1)")
    with pytest.raises(ControlFailedError):
        await asyncio.wait_for(it.supervisor.run(), WAIT_S)


async def test_kill_ends_everything_on_the_spot():
    async with running(spec("a", STUBBORN), spec("g", STUBBORN, "gateway")) as it:
        pids = [it.pid("a"), it.pid("g"), it.supervisor._control.state.pid]
        it.supervisor.kill()
        await until(lambda: not any(map(is_alive, pids)))


# -- rolling restarts ------------------------------------------------------------------------------------------------------


async def test_a_rolling_restart_replaces_gateways_one_by_one_and_nothing_else():
    specs = [spec("g1", kind="gateway"), spec("g2", kind="gateway"), spec("r")]
    async with running(*specs) as it:
        before = {name: it.pid(name) for name in ("g1", "g2", "r")}
        dying: list[tuple[str, bool]] = []
        real = it.supervisor._dismiss

        def dismiss(kept: Keeper) -> None:
            successor = it.kept(kept.spec.name)
            dying.append((kept.spec.name, successor is not kept and successor.state.phase is ProcessPhase.RUNNING))
            real(kept)

        it.supervisor._dismiss = dismiss  # type: ignore[method-assign]
        it.supervisor.roll()
        await until(lambda: not is_alive(before["g1"]) and not is_alive(before["g2"]))
        await it.until_running("g1", "g2", "r")
        # Each went only when its successor was ready.
        assert dying == [("g1", True), ("g2", True)]
        assert it.pid("r") == before["r"]


@pytest.mark.parametrize(
    "broken", ["import sys; sys.exit(1)", 'print(\'{"failed":{"message":"no"}}\', flush=True); input()']
)
async def test_a_replacement_that_is_not_ready_leaves_the_old_gateway_alone(broken, caplog):
    async with running(spec("g1", kind="gateway"), spec("g2", kind="gateway")) as it:
        pids = it.pid("g1"), it.pid("g2")
        it.want(spec("g1", broken, "gateway"), spec("g2", kind="gateway"))
        it.supervisor.roll()
        await until(lambda: "the replacement of g1 did not become ready; the one before goes on" in caplog.text)
        await until(lambda: not it.supervisor._leaving)
        assert (it.pid("g1"), it.pid("g2")) == pids
        assert all(map(is_alive, pids))
