"""`make demo`: a credit score on real data, from training to an API, in plain words and with timings.

    python examples/credit/demo.py [--once] [--home .limen/demo]

It trains the model of train.py, checks and builds its package with the `limen` command, serves it, asks it in the four ways of
ask.py, and compares every answer with the model called directly. The exit status is 1 when anything differs. Then it leaves the
server running until Ctrl-C, or with --once stops it. Everything it makes is in the home folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
LIMEN = str(Path(sys.executable).with_name("limen"))
MAX_DIFFERENCE = 1e-6
START_TIMEOUT_S = 60.0


class Failed(Exception):
    """The demo cannot go on; the text says why and what to do."""


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description="A credit score on real data, from training to an API.")
    parser.add_argument("--once", action="store_true", help="stop the server at the end and exit")
    parser.add_argument("--home", type=Path, default=Path(".limen/demo"), help="where everything it makes is kept")
    options = parser.parse_args()
    home: Path = options.home
    home.mkdir(parents=True, exist_ok=True)
    print("\nLimen demo: a credit score on real data, from training to an API")

    say("Load the libraries")
    import train

    package = home / "credit"
    say("Train on 9,857 loans that LendingClub made in 2016 (scikit-learn), export to ONNX, write the package")
    report = train.write_package(package)
    train.print_report(report, indent="   ")
    print(f"   {package}/ holds {', '.join(sorted(path.name for path in package.iterdir()))}")

    say("Check the package: manifest, files, tensors, golden examples")
    run("check", str(package))

    say("Build the archive; the same content always has the same digest")
    shutil.rmtree(home / "dist", ignore_errors=True)
    run("build", str(package), "--output", str(home / "dist"))
    (archive,) = (home / "dist").glob("*.limen")

    say("Serve the archive")
    with served(archive, home) as (server, addresses):
        note("REST", f"http://{addresses['http']}")
        note("gRPC", addresses["grpc"])
        same = compare(package, addresses)
        show_refusal(addresses["http"], package)
        verdict = "all answers are those of the model" if same else "SOME ANSWERS DIFFER from the model"
        say(f"Done in {time.perf_counter() - STARTED:.0f} s: {verdict}")
        if not options.once:
            stay(server, addresses["http"], home)
    if server.returncode != 0:
        raise Failed(f"the server ended with status {server.returncode}; its last words are in {home / 'serve.log'}")
    return 0 if same else 1


def compare(package: Path, addresses: dict[str, Any]) -> bool:
    """Ask in four ways, print a table, and return whether every answer is the model's own."""
    import ask
    import numpy as np
    import onnxruntime as ort
    import train

    loans = train.load()[0].sample(200, random_state=1)
    records = train.records(loans)
    session = ort.InferenceSession(package / "model.onnx", providers=["CPUExecutionProvider"])
    probability, decision = train.answer(session, loans)

    say(f"Ask it for {len(loans)} loans in four ways, and compare with the ONNX file called directly")
    print(f"   {'':<14}{'200 loans':>10}{'one loan':>10}{'largest difference':>21}{'decisions':>12}")
    same = True
    for way in (ask.Records, ask.OipJson, ask.OipBinary, ask.Grpc):
        with contextlib.closing(way(addresses["grpc" if way is ask.Grpc else "http"])) as client:
            got_probability, got_decision = client.ask(records)
            many = median_ms(lambda: client.ask(records), 5)
            one = median_ms(lambda: client.ask(records[:1]), 50)
        difference = float(np.abs(got_probability - probability).max())
        agree = got_decision == list(decision)
        same &= agree and difference <= MAX_DIFFERENCE
        agreement = "the same" if agree else "DIFFERENT"
        print(f"   {way.name:<14}{many:>7.1f} ms{one:>7.2f} ms{difference:>21.1e}{agreement:>12}")
    return same


def show_refusal(address: str, package: Path) -> None:
    """Send a record with mistakes and print what the server says."""
    import ask

    good = json.loads((package / "examples.json").read_text())[0]["inputs"]
    bad = {name: value for name, value in good.items() if name != "inquiries_6m"}
    bad |= {"loan_amount": -5, "term": 48, "interest_rate": "high", "anual_income": 65000}
    say("Send a record with five mistakes: the contract refuses it before the model sees it, and names each one")
    with contextlib.closing(ask.Records(address)) as client:
        try:
            client.ask([bad])
        except ask.Refused as refused:
            print(f"   HTTP {refused.status}, {refused.body['code']}")
            for mistake in refused.body["details"]:
                note(f"  {mistake['path']}", mistake["reason"], width=32)
        else:
            raise Failed("the server answered a request that its contract forbids")


def stay(server: subprocess.Popen[bytes], http: str, home: Path) -> None:
    """Print what to look at and wait for Ctrl-C."""
    examples = json.loads((home / "credit" / "examples.json").read_text())
    request = home / "request.json"
    request.write_text(json.dumps({"instances": [example["inputs"] for example in examples[:2]]}, indent=2) + "\n")
    print("   The server goes on. Look at")
    for title, path in (
        ("docs", "/docs"),
        ("OpenAPI", "/openapi.json"),
        ("contract", "/v1/models/credit/contract"),
        ("typed .proto", "/v1/models/credit.proto"),
    ):
        note(f"  {title}", f"http://{http}{path}", width=16)
    print("   and try")
    print(f"     curl http://{http}/v1/models/credit:predict -H 'content-type: application/json' -d @{request}")
    print("\n   Ctrl-C stops it.")
    try:
        server.wait()
    except KeyboardInterrupt:
        print("\n   Stopped.")
    else:
        raise Failed(f"the server stopped by itself; its last words are in {home / 'serve.log'}")


@contextlib.contextmanager
def served(archive: Path, home: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """Run `limen serve` and yield it with its addresses; stop it on the way out, whatever happens."""
    announcement, log = home / "server.json", home / "serve.log"
    announcement.unlink(missing_ok=True)
    command = ["serve", str(archive), "--home", str(home), "--announce", str(announcement)]
    command += ["--http-port", str(port(8000)), "--grpc-port", str(port(8001))]
    command += ["--metrics-port", str(port(8003))]
    print_command(command)
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches the demo, which then stops the server.
        server = subprocess.Popen([LIMEN, *command], stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not announcement.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip() or "nothing"
                raise Failed(f"the server did not start; it said:\n{said}")
            time.sleep(0.02)
        yield server, json.loads(announcement.read_text())
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def port(wanted: int) -> int:
    """Return a port if it is free, and otherwise 0, which lets the system choose one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            print(f"   Port {wanted} is taken by another program, so the system chooses one.")
            return 0
    return wanted


def run(*command: str) -> None:
    """Run the real `limen` command and show what it prints."""
    print_command(list(command))
    done = subprocess.run([LIMEN, *command], capture_output=True, text=True, check=False)
    print(textwrap.indent((done.stdout + done.stderr).strip("\n"), "   "))
    if done.returncode != 0:
        raise Failed(f"`limen {command[0]}` ended with status {done.returncode}")


def median_ms(work: Any, times: int) -> float:
    """Return the median time of some work in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[times // 2] * 1e3


def say(text: str) -> None:
    """Begin a step, after the seconds since the start."""
    print(f"\n{time.perf_counter() - STARTED:5.1f} s  {text}")


def note(name: str, text: str, width: int = 14) -> None:
    """Print one fact of the present step."""
    print(f"   {name:<{width}}{text}")


def print_command(command: list[str]) -> None:
    """Print a command of the `limen` program as people type it."""
    print(f"   $ limen {' '.join(command)}")


def interrupt(*_: object) -> None:
    """Treat being ended like Ctrl-C, so that the server is stopped as well."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    # SIGINT too: a shell starts what runs in the background with it ignored.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), interrupt)
    sys.stdout.reconfigure(line_buffering=True)
    warnings.simplefilter("ignore")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\n   Stopped.")
        sys.exit(130)
    except ModuleNotFoundError as exc:
        sys.exit(f"\n   The demo needs the Python package {exc.name}. Run `make setup` first.")
    except Failed as exc:
        sys.exit(f"\n   {exc}")
