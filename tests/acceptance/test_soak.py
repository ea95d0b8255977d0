"""Everything that hurts, mixed, for minutes, over all protocols: no wrong answer, none missing, and the server knows how it is.

Two minutes in `make test-all`; `LIMEN_SOAK_S=600 make test-all ARGS=tests/acceptance/test_soak.py` runs the ten minutes of a release.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import LimenError
from limen.packaging.archive.package import build
from tests.services.chaos import FACTORS, Chaos, small_disk
from tests.services.packages import write_product
from tests.services.probers import probing
from tests.services.process import WAIT_S
from tests.services.registry import World, world_at

SOAK_S = float(os.environ.get("LIMEN_SOAK_S", "120"))
PAUSE_S = 3.0


def mended(world: World) -> bool:
    """Wait until the server says that the endpoint is ready; whether it does."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        with suppress(LimenError):  # control may be on its way back
            if world.management.endpoint("steady").status.is_ready:
                return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.timeout(SOAK_S + 240)
def test_nothing_is_wrong_or_lost_while_everything_breaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    with small_disk(tmp_path / "home") as is_small, world_at(tmp_path, "--workers", "2", log=log) as world:
        for factor in FACTORS:
            archive = build(write_product(tmp_path / f"steady-{factor:g}", factor), tmp_path / f"dist-{factor:g}").path
            world.management.publish("steady", archive)
        world.management.set_alias("steady", "champion", 1)
        spec = EndpointSpec(name="steady", model="steady", traffic={"champion": 100})
        applied = world.management.apply_endpoint(spec)
        world.until_ready("steady", applied.revision)
        chaos = Chaos(world, seed=int(time.time()), is_small=is_small)
        done: list[str] = []
        with probing(world) as (callers, watcher):
            end = time.monotonic() + SOAK_S
            while time.monotonic() < end:
                done.append(chaos.one())
                time.sleep(PAUSE_S)
        assert mended(world)
        with capsys.disabled():
            print(f"\nsoak: {len(done)} faults; answered:", {c.name: dict(c.answered) for c in callers})
    told = [f"{c.name}: {text}" for c in callers for text in (*c.wrong, *c.failed)]
    warned = [line for line in log.read_text().splitlines() if " WARNING " in line or " ERROR " in line]
    assert (told, watcher.disagreements()) == ([], []), "\n".join((*done, *warned))
    assert all(sum(c.answered.values()) > SOAK_S for c in callers)
