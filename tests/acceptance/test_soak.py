"""Everything that hurts, mixed, for minutes, over all protocols: no wrong answer, none missing, and the server knows how it is.

Two minutes in `make test-all`; `LIMEN_SOAK_S=600 make test-all ARGS=tests/acceptance/test_soak.py` runs the ten minutes of a release.
"""

import os
import time
from pathlib import Path

import pytest

from limen.contracts.endpoint import EndpointSpec
from limen.packaging.archive import build
from tests.services.chaos import FACTORS, Chaos, small_disk
from tests.services.packages import write_product
from tests.services.probers import probing
from tests.services.process import WAIT_S
from tests.services.registry import world_at

SOAK_S = float(os.environ.get("LIMEN_SOAK_S", "120"))
PAUSE_S = 3.0


@pytest.mark.slow
@pytest.mark.timeout(SOAK_S + 240)
def test_nothing_is_wrong_or_lost_while_everything_breaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "home") as is_small, world_at(tmp_path, "--workers", "2") as world:
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
        until = time.monotonic() + WAIT_S
        while not world.management.endpoint("steady").status.is_ready:
            assert time.monotonic() < until
            time.sleep(0.1)
        with capsys.disabled():
            print(f"\nsoak: {len(done)} faults; answered:", {c.name: dict(c.answered) for c in callers})
    told = [f"{c.name}: {text}" for c in callers for text in (*c.wrong, *c.failed)]
    assert (told, watcher.disagreements()) == ([], []), "\n".join(done)
    assert all(sum(c.answered.values()) > SOAK_S for c in callers)
