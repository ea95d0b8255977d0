"""Whatever breaks while something is published, there is never half a version, and publishing again works (F08, F18, F19)."""

import random
import shutil
import subprocess
import sys

import msgspec
import pytest

from limen.contracts.catalogue import EvidenceKind
from limen.contracts.errors import InvalidPackage, Unavailable
from limen.contracts.trial import Answer, Loaded, Probed
from limen.packaging.archive.package import build, open_package
from limen.publishing.probe import Order
from limen.runtime.sandbox.child import python
from limen.runtime.sandbox.room import Room
from tests.services import publish_forked
from tests.services.packages import write_code, write_score, write_trouble
from tests.services.process import wait_gone

KILLS = 20
WAIT_S = 60


class Canned:
    def run(self, package, examples, *, trust_code, stop=None):
        return Probed(Loaded(0.1, False, ()), tuple(Answer({"score": 2.0}) for _ in examples))


def is_whole(shop, tmp_path):
    """Tell whether there is a version, after making sure that it is all there."""
    if not shop.models():
        return False
    kept = shop.registry.archive_of("score", 1)
    shop.blobs.fetch(kept.archive, tmp_path / "fetched.limen")
    assert open_package(tmp_path / "fetched.limen", tmp_path / "cache").digest == kept.digest
    assert {e.kind for e in shop.registry.evidence("score", 1)} == {
        EvidenceKind.SCAN,
        EvidenceKind.SIGNATURE,
        EvidenceKind.GOLDEN,
    }
    assert shop.registry.resolve("score", "champion").number == 1
    return True


class Publishing:
    """The process whose children publish."""

    def __init__(self, archive):
        command = [sys.executable, publish_forked.__file__, str(archive)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdout.readline() == b"ready\n"

    def run(self, home, kill_after_s):
        """Publish into a home; return whether that was acknowledged, and the seconds it took."""
        self.process.stdin.write(f"{kill_after_s} {home}\n".encode())
        is_done = False
        while not (line := self.process.stdout.readline()).startswith(b"ended"):
            assert line == b"done\n"
            is_done = True
        return is_done, float(line.split()[1])

    def close(self):
        self.process.stdin.close()
        self.process.wait(WAIT_S)
        self.process.stdout.close()


@pytest.fixture
def publishing(tmp_path):
    publishing = Publishing(build(write_score(tmp_path / "score"), tmp_path / "dist").path)
    yield publishing
    publishing.close()


def test_f19_a_kill_at_any_point_leaves_a_whole_version_or_none(shop, tmp_path, publishing):
    """The points are spread over the time that publishing takes; the first run, without a kill, says how long that is."""
    shop.database.close()
    [archive] = (tmp_path / "dist").iterdir()
    points = random.Random(19)
    took, outcomes = 0.0, []
    for i in range(KILLS + 1):
        home = shutil.copytree(shop.home, tmp_path / f"home-{i}")
        is_acknowledged, seconds = publishing.run(home, points.uniform(0.001, took) if i else 0)
        took = took or seconds
        found = type(shop)(home)
        outcomes.append(is_whole(found, tmp_path))
        assert outcomes[-1] or not is_acknowledged, "an acknowledged version is lost"
        again = found.publish(archive, probe=Canned(), aliases=("champion",))
        assert (again.version.number, is_whole(found, tmp_path)) == (1, True)
        assert found.leftovers == []
        found.database.close()
    assert outcomes[0]
    assert False in outcomes, "every kill came too late to show anything"


def test_f18_an_archive_with_a_flipped_bit_is_never_a_version(shop, tmp_path):
    archive = build(write_score(tmp_path / "score"), tmp_path / "dist").path
    whole = archive.read_bytes()
    for at in random.Random(18).sample(range(len(whole) * 8), 200):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        archive.write_bytes(damaged)
        with pytest.raises(InvalidPackage):
            shop.publish(archive, probe=Canned())
    assert (shop.models(), shop.leftovers, shop.stored) == ([], [], [])


@pytest.mark.parametrize("step", ["put", "add_version", "add_evidence", "set_alias"])
def test_f08_a_store_that_is_full_leaves_no_version_and_later_takes_it(shop, tmp_path, monkeypatch, step):
    package = write_score(tmp_path / "score")

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shop.blobs if step == "put" else shop.registry, step, full)
        with pytest.raises(Unavailable) as caught:
            shop.publish(package, probe=Canned(), aliases=("champion",))
        assert caught.value.reason == "STORAGE_FULL"
        assert (shop.models(), shop.leftovers) == ([], [])
    assert shop.publish(package, probe=Canned(), aliases=("champion",)).is_new
    assert is_whole(shop, tmp_path)


def test_f08_a_staging_folder_that_cannot_be_made_is_a_matter_of_storage(shop, tmp_path):
    (shop.home / "staging").write_text("in the way")
    with pytest.raises(Unavailable) as caught:
        shop.publish(write_score(tmp_path / "score"), probe=Canned())
    assert caught.value.reason == "STORAGE"


def test_a_package_that_is_tried_out_ends_with_whoever_asked(tmp_path):
    """The model never answers; the process that asked is killed, which closes its end of standard input."""
    package = write_trouble(tmp_path / "trouble")
    inputs = b'[{"x":-2}]'
    room = Room(root=str(package), scratch=str(tmp_path), brings_code=True, memory_mb=2048, time_s=WAIT_S)
    order = Order(room=room, trust_code=True, inputs_bytes=len(inputs))
    process = subprocess.Popen(python("limen.app.probe"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    process.stdin.write(msgspec.json.encode(order) + b"\n" + inputs)
    assert b"loaded" in process.stdout.readline()
    process.stdin.close()
    assert process.wait(WAIT_S) != 0
    process.stdout.close()


@pytest.mark.parametrize("session", [False, True], ids=["in its session", "in one of its own"])
def test_what_the_model_started_is_thrown_away_with_it(session, shop, tmp_path):
    """A package of code starts a process of its own; it is gone when the answer is there."""
    told = tmp_path / "pid"
    # Ids inside a namespace of processes mean nothing here: /proc says what it is outside.
    program = "import os, sys, time; os.write(1, os.readlink('/proc/self').encode()); os.close(1); time.sleep(600)"
    code = f"""\
    import subprocess
    import sys

    child = subprocess.Popen([sys.executable, "-c", {program!r}], stdout=subprocess.PIPE, start_new_session={session})
    with open({str(told)!r}, "wb") as file:
        file.write(child.stdout.read())


    class Model:
        def predict(self, inputs):
            return inputs
    """
    package = write_code(
        tmp_path / "forks", "inputs: [{name: x, type: float64}]\noutputs: [{name: x, type: float64}]\n", code
    )
    shop.trust = type(shop.trust)(code=True)
    shop.publish(package)
    wait_gone([int(told.read_text())])


def test_secrets_of_the_server_stay_out_of_the_process(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("LIMEN_DATABASE_URL", "sqlite:////secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    code = """\
    import os

    import numpy as np


    class Model:
        def predict(self, inputs):
            known = {"LIMEN_DATABASE_URL", "AWS_SECRET_ACCESS_KEY"} & set(os.environ)
            return {"secrets": np.full(len(inputs["x"]), len(known), np.int64)}
    """
    manifest = """\
    inputs: [{name: x, type: float64}]
    outputs: [{name: secrets, type: int64}]
    examples: [{inputs: {x: 1}, outputs: {secrets: 0}}]
    """
    shop.trust = type(shop.trust)(code=True)
    assert shop.publish(write_code(tmp_path / "curious", manifest, code)).is_new
