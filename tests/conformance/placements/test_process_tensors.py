"""Tensors on their way to a replica and back: every type, large ones in shared memory, shapes and parameters that change."""

import asyncio

import numpy as np
import pytest

from limen.contracts.inference import InferenceRequest, InferenceResponse
from limen.packaging.archive.package import open_package
from limen.runtime.placement.process.own import OwnReplicas
from limen.runtime.placement.process.wire import handshake
from limen.runtime.placement.process.wire.arena import ARENA_BYTES, SHARED_MIN
from limen.testing.asking import ask, ask_all

MIB = 1 << 18
"""Elements of float32 in a mebibyte."""
MANIFEST = """
name: echo
backend: python
artifact: model.py:Echo
inputs:
  - {name: x, type: float32, shape: [-1]}
  - {name: t, type: string, nullable: true}
outputs:
  - {name: x, type: float32, shape: [-1]}
  - {name: t, type: string}
  - {name: said, type: string}
"""
CODE = """
import numpy as np

class Echo:
    def load(self, path):
        self.kept = []

    def predict(self, inputs, parameters):
        if parameters.get("keep"):
            self.kept.append((inputs["x"], inputs["x"].sum()))
        if parameters.get("check"):
            assert all(x.sum() == total for x, total in self.kept)
        said = np.full(len(inputs["x"]), repr(parameters), object)
        return {"x": inputs["x"], "t": inputs["t"], "said": said}
"""


@pytest.fixture
async def pool(tmp_path):
    """Two replicas that give back what they get."""
    folder = tmp_path / "echo"
    folder.mkdir()
    (folder / "model.yaml").write_text(MANIFEST)
    (folder / "model.py").write_text(CODE)
    found = await OwnReplicas(trust_code=True, replicas=2).start(open_package(folder, tmp_path / "home"), "1")
    yield found
    await found.close()


def request(x, t="t", **parameters):
    """Return a request whose rows are those of `x`."""
    texts = np.empty(len(x), object)
    texts[:] = t
    return InferenceRequest("echo", {"x": np.asarray(x, np.float32), "t": texts}, "1", "", parameters, rows=len(x))


def numbers(elements, seed=0, rows=1):
    """Return numbers nobody else has."""
    return np.random.default_rng(seed).random((rows, elements), np.float32)


def shared(pool):
    """Whether nothing of the arenas is in use."""
    return [link._packer.arena.ring.is_empty for link in pool._ready]


async def test_a_mebibyte_goes_through_shared_memory_and_back_unchanged(pool):
    x = numbers(MIB)
    for _ in range(3):
        outcome = await ask(pool, request(x))
        np.testing.assert_array_equal(outcome.outputs["x"], x)
    assert shared(pool) == [True, True]
    assert sum(link._taken for link in pool._ready) == 3


async def test_many_large_answers_at_once_do_not_overwrite_each_other(pool):
    tensors = [numbers(MIB, seed) for seed in range(12)]
    outcomes = await asyncio.gather(*(ask(pool, request(x)) for x in tensors))
    for x, outcome in zip(tensors, outcomes, strict=True):
        np.testing.assert_array_equal(outcome.outputs["x"], x)


async def test_a_large_batch_is_one_run_and_each_gets_its_rows(pool):
    tensors = [numbers(SHARED_MIN // 8, seed, rows) for seed, rows in enumerate((1, 3, 2, 5))]
    outcomes = await ask_all(pool, [request(x) for x in tensors])
    for x, outcome in zip(tensors, outcomes, strict=True):
        np.testing.assert_array_equal(outcome.outputs["x"], x)


async def test_what_a_model_keeps_of_its_inputs_is_not_overwritten(pool):
    pool.set_replicas(list(pool._paths.values())[:1])
    for seed in range(8):
        assert isinstance(await ask(pool, request(numbers(MIB, seed), keep=True)), InferenceResponse)
    assert isinstance(await ask(pool, request(numbers(MIB, 99), check=True)), InferenceResponse)
    assert shared(pool) == [False]


async def test_what_does_not_fit_travels_over_the_socket(pool):
    x = numbers(ARENA_BYTES // 4 + 1)
    outcome = await ask(pool, request(x))
    np.testing.assert_array_equal(outcome.outputs["x"], x)
    assert sum(link._taken for link in pool._ready) == 0


async def test_without_shared_memory_everything_travels_over_the_socket(pool, monkeypatch):
    monkeypatch.setattr(handshake, "create_memory", refuse)
    paths = tuple(pool._paths.values())
    pool.set_replicas([])
    pool.set_replicas(paths)
    await pool.wait_ready(5)
    x = numbers(MIB)
    np.testing.assert_array_equal((await ask(pool, request(x))).outputs["x"], x)


def refuse(size):
    raise OSError


async def test_shapes_may_change_with_every_request(pool):
    for width in (*range(40), 1100, *range(40)):
        x = numbers(width, width, rows=2)
        np.testing.assert_array_equal((await ask(pool, request(x))).outputs["x"], x)


async def test_texts_keep_none_and_nul_and_no_rows_are_no_rows(pool):
    texts = ["", "a\0b", None, "é" * 1000, "\U0001f600"]
    outcome = await ask(pool, request(numbers(2, rows=5), texts))
    assert outcome.outputs["t"].tolist() == texts
    outcome = await ask(pool, request(np.empty((0, 2)), []))
    assert outcome.outputs["x"].shape == (0, 2)
    assert outcome.outputs["t"].shape == (0,)


async def test_parameters_arrive_as_they_were(pool):
    numbers_ = [True, False, 1, 0, -(1 << 70), 1.0, 0.1, -0.0, float("inf"), float("nan")]
    for value in [*numbers_, "", "é\\n\0", "a" * 70_000] * 2:
        outcome = await ask(pool, request(numbers(1), p=value))
        assert outcome.outputs["said"].tolist() == [repr({"p": value})]
