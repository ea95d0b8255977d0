"""What the processes of a server cost in memory, and which modules cost most.

    python -m benchmarks footprint [N]

A server of a registry with N endpoints of one tiny ONNX model (default 1) is started and left alone. For each process its proportional set
size (PSS: shared pages count by their share) and what is its own (dirty private pages) are shown. Then each kind of process imports its
modules once more, in an interpreter of its own, and packages that bring more than 2 MiB are named.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx

from benchmarks import many

SETTLE_S: Final = 3.0
LEAST_MB: Final = 2.0
ENTRIES: Final = {
    "supervisor": "limen.app limen.serving.supervision.supervisor",
    "control": "limen.app.control limen.app.templates limen.serving.control.controlplane limen.serving.sources.reconciler limen.app.management",
    "gateway": "limen.app.gateway",
    "template": "limen.runtime.placement.process.replica.template",
}
"""What each kind of process imports, sooner or later."""
_COUNT: Final = """
import importlib.abc, importlib.machinery, sys
own, stack = {}, [0.0]
def used():
    for line in open("/proc/self/smaps_rollup"):
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) / 1024
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module
        def counted(module):
            stack.append(0.0)
            before = used()
            try:
                execute(module)
            finally:
                grown, inner = used() - before, stack.pop()
                stack[-1] += grown
                top = name.partition(".")[0]
                own[top] = own.get(top, 0.0) + grown - inner
        spec.loader.exec_module = counted
        return spec
sys.meta_path.insert(0, Finder())
for name in sys.argv[1:]:
    __import__(name)
for name, grown in sorted(own.items(), key=lambda item: -item[1]):
    print(name, round(grown, 1))
"""


def main(arguments: Sequence[str]) -> int:
    """Print the table of processes, then that of modules."""
    count = int(arguments[0]) if arguments else 1
    shutil.rmtree(many.HOME, ignore_errors=True)
    many.HOME.mkdir(parents=True)
    many.write_package(many.HOME / many.MODEL)
    with many.running() as (_, where):
        many.publish(where["admin"])
        for i in range(count):
            many.apply(where["admin"], f"e{i}")
    with many.running() as (pid, where), httpx.Client(base_url=f"http://{where['http']}", timeout=60) as http:
        for i in range(count):
            many.until(lambda name=f"e{i}": many.answers(http, name))  # type: ignore[misc]  # bound at once
        time.sleep(SETTLE_S)
        print("process                  PSS MiB   own MiB")
        total = 0.0
        for found in many.tree(pid):
            total += many.pss_mb(found)
            print(f"{kind_of(found, pid):24}{many.pss_mb(found):8.1f}{many.memory_mb(found, 'Private_Dirty'):10.1f}")
        print(f"{'all':24}{total:8.1f}")
    print(f"\nprocess     packages that bring more than {LEAST_MB:g} MiB")
    for kind, modules in ENTRIES.items():
        print(f"{kind:12}{', '.join(large_packages(modules.split()))}")
    return 0


def kind_of(pid: int, server: int) -> str:
    """Return what a process of a server is called."""
    said = many.command(pid).strip()
    if pid == server:
        return "supervisor"
    if said.startswith("limen "):
        return said.removeprefix("limen ")
    return next((kind for kind in ENTRIES if f".{kind} import" in said), Path(said.split()[0]).name)


def large_packages(modules: Sequence[str]) -> list[str]:
    """Return the top-level packages that importing these modules brings, the largest first, with their MiB."""
    done = subprocess.run([sys.executable, "-c", _COUNT, *modules], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return [f"{name} {size}" for name, size in rows if float(size) >= LEAST_MB]
