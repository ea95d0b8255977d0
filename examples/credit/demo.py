"""`make demo`: a credit score on real data, from training to an API that evolves, in plain words and with timings.

    python examples/credit/demo.py [--once] [--home .limen/demo]

It trains the model of train.py, checks its package and publishes it with the `limen` command, serves the registry, asks in the five ways
of ask.py, and compares every answer with the model called directly. Then evolution.py brings new versions while somebody goes on
asking. The exit status is 1 when an answer differs or is missing. In the end it leaves the server running until Ctrl-C, or with
--once stops it. Everything it makes is in the home folder; the registry there is a new one every time.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from stage import Failed, Server, median_ms, note, run, say, seconds, served, set_home

HERE = Path(__file__).parent
MAX_DIFFERENCE = 1e-6


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description="A credit score on real data, from training to an API that evolves.")
    parser.add_argument("--once", action="store_true", help="stop the server at the end and exit")
    parser.add_argument("--home", type=Path, default=Path(".limen/demo"), help="where everything it makes is kept")
    options = parser.parse_args()
    home: Path = options.home
    home.mkdir(parents=True, exist_ok=True)
    registry = new_registry(home)
    print("\nLimen demo: a credit score on real data, from training to an API that evolves")

    say("Train on 9,857 loans that LendingClub made in 2016 (scikit-learn), export to ONNX, write the package")
    import train

    package = home / "credit"
    train.print_report(train.write_package(package), indent="   ")

    say("Check the package: manifest, files, tensors, golden examples, batches")
    run("check", str(package), shown=-1)

    say("Publish it: a version never changes, and an alias decides which one callers get")
    set_home(registry)
    run("publish", str(package), "--alias", "champion")

    say("Serve the registry, and open an endpoint that follows the alias")
    with served(home / "server.json") as server:
        shutil.copyfile(HERE / "endpoint.yaml", home / "endpoint.yaml")
        run("endpoint", "apply", str(home / "endpoint.yaml"), "--yes")
        print(f"   It is at http://{server.http} and, for gRPC, at {server.grpc}")
        client = written_client(server, home)
        is_right = compare(package, server, client)
        show_refusal(server, package)

        import evolution

        is_right &= evolution.show(server, home, client)
        verdict = "all answers are those of the model" if is_right else "SOME ANSWERS DIFFER from the model"
        say(f"Done in {seconds():.0f} s: {verdict}")
        if not options.once:
            stay(server, home)
    if server.process.returncode != 0:
        raise Failed(f"the server ended with status {server.process.returncode}; its last words are in {server.log}")
    return 0 if is_right else 1


def new_registry(home: Path) -> Path:
    """Return the folder of a registry with nothing in it; the one of the last demo is removed."""
    from limen.serving.supervision import run_folder

    folder = home / "registry"
    for running in run_folder.find(folder):
        raise Failed(f"a demo is running with this home (process {running.pid}); end it first, or give another --home")
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def written_client(server: Server, home: Path) -> ModuleType:
    """Have `limen client` write a typed client of the endpoint, and import it."""
    run("client", "credit", "--output", str(home / "credit_client.py"), "--server", f"http://{server.http}")
    sys.path.insert(0, str(home))
    return importlib.import_module("credit_client")


def compare(package: Path, server: Server, client: ModuleType) -> bool:
    """Ask in five ways, print a table, and return whether every answer is the model's own."""
    import ask
    import numpy as np
    import onnxruntime as ort
    import train

    loans = train.load()[0].sample(200, random_state=1)
    records = train.records(loans)
    session = ort.InferenceSession(package / "model.onnx", providers=["CPUExecutionProvider"])
    probability, decision = train.answer(session, loans)
    ways: list[Callable[[], ask.Client]] = [
        *(lambda way=way: way(server.http) for way in (ask.Records, ask.OipJson, ask.OipBinary)),
        lambda: ask.Grpc(server.grpc),
        lambda: ask.Typed(server.grpc, client),
    ]

    say(f"Ask it for {len(loans)} loans in five ways, and compare with the ONNX file called directly")
    print(f"   {'':<14}{'200 loans':>10}{'one loan':>10}{'largest difference':>21}{'decisions':>12}")
    is_right = True
    for connect in ways:
        with contextlib.closing(connect()) as way:
            answer = way.ask(records)
            many = median_ms(lambda: way.ask(records), 5)
            one = median_ms(lambda: way.ask(records[:1]), 50)
        difference = float(np.abs(answer.probability - probability).max())
        agree = answer.decision == list(decision)
        is_right &= agree and difference <= MAX_DIFFERENCE
        agreement = "the same" if agree else "DIFFERENT"
        print(f"   {way.name:<14}{many:>7.1f} ms{one:>7.2f} ms{difference:>21.1e}{agreement:>12}")
    return is_right


def show_refusal(server: Server, package: Path) -> None:
    """Send a record with mistakes and print what the server says."""
    import ask

    good = json.loads((package / "examples.json").read_text())[0]["inputs"]
    bad = {name: value for name, value in good.items() if name != "inquiries_6m"}
    bad |= {"loan_amount": -5, "term": 48, "interest_rate": "high", "anual_income": 65000}
    say("Send a record with five mistakes: the contract refuses it before the model sees it, and names each one")
    with contextlib.closing(ask.Records(server.http)) as client:
        try:
            client.ask([bad])
        except ask.Refused as refused:
            print(f"   HTTP {refused.status}, {refused.body['code']}")
            for mistake in refused.body["details"]:
                note(f"  {mistake['path']}", mistake["reason"], width=32)
        else:
            raise Failed("the server answered a request that its contract forbids")


def stay(server: Server, home: Path) -> None:
    """Print what to look at and wait for Ctrl-C."""
    examples = json.loads((home / "credit" / "examples.json").read_text())
    request = home / "request.json"
    request.write_text(json.dumps({"instances": [example["inputs"] for example in examples[:2]]}, indent=2) + "\n")
    print("   The server goes on. Look at")
    for title, address, path in (
        ("docs", server.http, "/docs"),
        ("OpenAPI", server.http, "/openapi.json"),
        ("contract", server.http, "/v1/models/credit/contract"),
        ("typed .proto", server.http, "/v1/models/credit.proto"),
        ("management", server.admin, "/api/v1/models/credit/versions"),
    ):
        note(f"  {title}", f"http://{address}{path}", width=16)
    print("   and try")
    print(f"     curl http://{server.http}/v1/models/credit:predict -H 'content-type: application/json' -d @{request}")
    print(f"     limen model show credit --home {home / 'registry'}")
    print("\n   Ctrl-C stops it.")
    try:
        server.process.wait()
    except KeyboardInterrupt:
        print("\n   Stopped.")
    else:
        raise Failed(f"the server stopped by itself; its last words are in {server.log}")


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
