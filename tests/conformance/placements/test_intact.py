"""What is loaded is what was published, and answers as it promised, each time a model is loaded (F18)."""

import asyncio
from pathlib import Path

import pytest

from limen.contracts.errors import InvalidPackage
from limen.packaging.archive.package import Package, open_package
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.placement.process.own import OwnReplicas, end, launch
from limen.runtime.placement.process.pool.pool import ReplicaPool
from limen.runtime.placement.process.wire.start import ReplicaStart
from tests.services.packages import write_score

PLACEMENTS = {"inline": InlinePlacement, "process": OwnReplicas}
CODE = """
class Model:
    def predict(self, inputs, parameters):
        return {"y": inputs["x"] * %s}
"""
MANIFEST = """
name: code
backend: python
artifact: model.py:Model
inputs: [{name: x, type: float32}]
outputs: [{name: y, type: float32}]
examples: [{name: two, inputs: {x: 1}, outputs: {y: 2}}]
"""


def python(folder: Path, factor: int) -> Package:
    """Write a package whose example says that it doubles."""
    folder.mkdir()
    (folder / "model.yaml").write_text(MANIFEST)
    (folder / "model.py").write_text(CODE % factor)
    return open_package(folder, folder)


def start_of(package: Package, folder: Path) -> ReplicaStart:
    root, path = str(package.root), str(folder / "s")
    return ReplicaStart(root=root, version="1", digest=package.digest, trust_code=True, socket=path)


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_f18_a_damaged_model_is_refused_by_every_placement(placement: str, tmp_path: Path):
    package = open_package(write_score(tmp_path / "score"), tmp_path)
    model = package.root / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(InvalidPackage, match="damaged"):
        await PLACEMENTS[placement]().start(package, "1")


async def test_f18_code_that_was_changed_does_not_run(tmp_path: Path):
    package = python(tmp_path / "code", 2)
    (package.root / "model.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(InvalidPackage, match="damaged"):
        await launch(start_of(package, tmp_path))
    assert not (tmp_path / "ran").exists()


async def test_f18_a_replica_that_answers_its_example_wrongly_is_not_used_and_says_so(tmp_path: Path):
    package = python(tmp_path / "code", 3)
    with pytest.raises(InvalidPackage, match=r"differs from the recorded one: two\.y: expected 2.*, got 3"):
        await launch(start_of(package, tmp_path))


async def test_a_replica_answers_its_examples_before_it_is_ready(tmp_path: Path):
    package = python(tmp_path / "code", 2)
    start = start_of(package, tmp_path)
    process, ready = await launch(start)
    pool = ReplicaPool("code", "1", digest=package.digest)
    try:
        assert ready.load_s > 0
        pool.set_replicas([start.socket])
        await pool.wait_ready(30)
    finally:
        await pool.close()
        await asyncio.wait_for(end(process, grace_s=0), 30)
