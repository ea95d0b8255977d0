"""Callers who never stop and check every answer, and a watcher who compares what callers see with what the server says of itself."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import msgspec

from limen.client import Client, RetryPolicy
from limen.contracts.errors import LimenError
from tests.services import plain_http
from tests.services.chaos import FACTORS
from tests.services.registry import World

RIGHT = {"1": FACTORS[0], "2": FACTORS[1]}
"""What version 1 and version 2 make of 1."""
PATIENCE_S = 40.0
AGREE_WITHIN_S = 10.0
# As documented for callers who would rather wait than fail.
POLICY = RetryPolicy(attempts=20, budget=1.0, reserve=10)


class Caller:
    """Asks over one transport, again when the server asks for that, until it is over."""

    def __init__(self, name: str, url: str, *, streams: bool = False) -> None:
        self.name = name
        self._url = url
        self._streams = streams
        self.answered: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.failed: list[str] = []

    def run(self, is_over: threading.Event) -> None:
        with Client(self._url, retry=POLICY, timeout=PATIENCE_S) as client:
            n = 0
            while not is_over.wait(0.03):
                n += 1
                self._ask(client, float(n % 97))

    def _ask(self, client: Client, x: float) -> None:
        begun = time.monotonic()
        try:
            if self._streams:
                (answer,) = client.stream("steady", {"x": x})
            else:
                answer = client.predict("steady", {"x": x})
        except (LimenError, ValueError) as exc:
            self.failed.append(f"{time.strftime('%X')} after {time.monotonic() - begun:.1f} s: {exc!r}")
            return
        if answer.record["y"] != x * RIGHT[answer.version]:
            self.wrong.append(f"version {answer.version} made {answer.record['y']} of {x}")
        self.answered[answer.version] += 1


class Seen(msgspec.Struct):
    """One look."""

    at: float
    is_answered: bool
    says: dict[str, bool]
    """What each source says about it: readiness, the endpoint's status."""


class Watcher:
    """Asks without retries, and then whether the server calls itself ready."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.seen: list[Seen] = []

    def run(self, is_over: threading.Event) -> None:
        base = str(self._world.server.http.base_url)
        admin = f"http://{self._world.server.announced['admin']}"
        while not is_over.wait(0.2):
            asked = _ask(f"{base}/v1/models/steady:predict", {"instances": [{"x": 1}]})
            ready = _ask(f"{base}/v2/models/steady/ready")
            status = _ask(f"{admin}/api/v1/endpoints/steady")
            says = {"readiness": ready is not None and ready.status_code == httpx.codes.OK}
            if status is not None and status.status_code == httpx.codes.OK:
                says["status"] = status.json()["status"].get("is_ready", False)
            is_answered = asked is not None and asked.status_code == httpx.codes.OK
            self.seen.append(Seen(time.monotonic(), is_answered, says))

    def disagreements(self) -> list[str]:
        """Return where a source said for ten seconds the opposite of what every call in them showed."""
        found = []
        for source in ("readiness", "status"):
            since, opposite = 0.0, None
            for look in self.seen:
                said = look.says.get(source)
                if said is None or said == look.is_answered or opposite not in (None, said):
                    opposite = None
                    continue
                if opposite is None:
                    since, opposite = look.at, said
                if look.at - since > AGREE_WITHIN_S:
                    found.append(f"{source} said {said} for {look.at - since:.0f} s while calls said {not said}")
        return found


def _ask(url: str, body: object = None) -> httpx.Response | None:
    try:
        return plain_http.get(url, timeout=1.0) if body is None else plain_http.post(url, json=body, timeout=1.0)
    except httpx.HTTPError:
        return None


@contextmanager
def probing(world: World) -> Iterator[tuple[list[Caller], Watcher]]:
    """Have callers on every protocol, and the watcher, while the block runs."""
    rest, grpc = f"http://{world.server.announced['http']}", f"grpc://{world.server.grpc}"
    callers = [Caller("REST", rest), Caller("gRPC", grpc), Caller("gRPC stream", grpc, streams=True)]
    watcher = Watcher(world)
    is_over = threading.Event()
    threads = [threading.Thread(target=one.run, args=(is_over,)) for one in (*callers, watcher)]
    for thread in threads:
        thread.start()
    try:
        yield callers, watcher
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
