"""What every placement owes its callers: the same suite over inline and process."""

import asyncio
import fcntl
import math
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from limen.contracts.errors import DeadlineExceeded, InvalidPackage, LimenError, ModelFailed, Reason, Unavailable
from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest
from limen.packaging.archive import open_package
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.placement.process import ProcessPlacement

PLACEMENTS = {"inline": InlinePlacement, "process": ProcessPlacement}
TYPES = ("bool", "int8", "int64", "uint64", "float16", "bfloat16", "float32", "float64", "string", "bytes")
MANIFEST = """
name: probe
backend: python
artifact: model.py:Probe
inputs:
{inputs}
outputs:
{outputs}
batching: {{max_rows: 4}}
"""
CODE = """
import fcntl, os, pathlib, signal
import numpy as np

class Probe:
    def load(self, path):
        self.path = pathlib.Path(path)
        if (self.path / "broken").exists():
            raise RuntimeError("marker-7f3a")

    def predict(self, inputs, parameters):
        if parameters.get("raise"):
            raise RuntimeError("marker-7f3a")
        if parameters.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if gate := parameters.get("gate"):
            with open(gate, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
        return {**inputs, "rows": np.full(len(inputs["v_float32"]), len(inputs["v_float32"]), np.int64),
                "pid": np.full(len(inputs["v_float32"]), os.getpid(), np.int64)}

    def close(self):
        (self.path / "closed").touch()
"""
STREAMING = """
import numpy as np

class Counter:
    def load(self, path):
        self.path = path

    def predict(self, inputs):
        return {"n": inputs["upto"]}

    def stream(self, inputs):
        try:
            for n in range(int(inputs["upto"][0])):
                if n == 7:
                    raise RuntimeError("marker-7f3a")
                yield {"n": np.array([n], np.int64)}
        finally:
            (self.path / "stopped").touch()
"""
STREAM_MANIFEST = """
name: counter
backend: python
artifact: model.py:Counter
inputs: [{name: upto, type: int64}]
outputs: [{name: n, type: int64}]
"""


def probe(folder: Path) -> Path:
    """Write the probe package: every type in, the same out, and who answered."""
    fields = "\n".join(f"  - {{name: v_{t}, type: {t}}}" for t in TYPES)
    extra = "\n  - {name: rows, type: int64}\n  - {name: pid, type: int64}"
    folder.mkdir()
    (folder / "model.yaml").write_text(MANIFEST.format(inputs=fields, outputs=fields + extra))
    (folder / "model.py").write_text(CODE)
    return folder


def tensors(rows: int = 1) -> dict[str, np.ndarray]:
    """Return `rows` rows of every type."""
    import ml_dtypes

    text, raw = np.empty(rows, object), np.empty(rows, object)
    text[:] = [f"é{i}\0" for i in range(rows)]
    raw[:] = [bytes([255, 0, i]) for i in range(rows)]
    numbers = {
        "bool": np.arange(rows) % 2 == 0,
        "int8": np.full(rows, -128, np.int8),
        "int64": np.full(rows, -(1 << 63), np.int64),
        "uint64": np.full(rows, (1 << 64) - 1, np.uint64),
        "float16": np.full(rows, 0.5, np.float16),
        "bfloat16": np.full(rows, 1.5, ml_dtypes.bfloat16),
        "float32": np.arange(rows, dtype=np.float32),
        "float64": np.full(rows, math.nan, np.float64),
    }
    return {f"v_{name}": array for name, array in (numbers | {"string": text, "bytes": raw}).items()}


def request(rows: int = 1, **parameters: object) -> InferenceRequest:
    """Return a request for the probe."""
    return InferenceRequest("probe", tensors(rows), "1", "an-id", parameters, rows=rows)


@pytest.fixture(params=PLACEMENTS)
def placement(request):
    """Each placement, trusted to run code."""
    return PLACEMENTS[request.param](trust_code=True)


@pytest.fixture
async def predictor(placement, tmp_path):
    """A loaded probe that gives a right answer again when the test is over."""
    found = await placement.start(open_package(probe(tmp_path / "probe"), tmp_path / "home"), "1")
    yield found
    outcome = await answered(found)
    assert outcome.outputs["rows"].tolist() == [1]
    await found.close()


@contextmanager
def closed_gate(folder):
    """Hold a file that the probe waits for; whoever waits goes on when the block ends."""
    gate = folder / "gate"
    with gate.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield str(gate)


async def answered(predictor):
    """Return the next answer, waiting for a replica that is being replaced."""
    for _ in range(200):
        (outcome,) = await predictor.predict([request()], NO_DEADLINE)
        if not isinstance(outcome, Unavailable):
            return outcome
        await asyncio.sleep(0.05)
    raise AssertionError("never available again")


async def test_every_type_comes_back_as_it_went(predictor):
    sent = tensors(3)
    (outcome,) = await predictor.predict([InferenceRequest("probe", dict(sent), "1", "r-1", rows=3)], NO_DEADLINE)
    assert (outcome.model_name, outcome.model_version, outcome.id) == ("probe", "1", "r-1")
    for name, array in sent.items():
        assert outcome.outputs[name].dtype == array.dtype
        np.testing.assert_array_equal(outcome.outputs[name], array)


async def test_more_rows_than_the_model_takes_are_run_in_parts_and_keep_their_order(predictor):
    (outcome,) = await predictor.predict([request(10)], NO_DEADLINE)
    assert outcome.outputs["v_float32"].tolist() == list(range(10))
    assert outcome.outputs["rows"].tolist() == [4] * 8 + [2] * 2


async def test_one_failing_request_fails_alone_and_its_text_stays_here(predictor):
    outcomes = await predictor.predict([request(), request(**{"raise": True}), request()], NO_DEADLINE)
    assert [type(outcome).__name__ for outcome in outcomes] == ["InferenceResponse", "ModelFailed", "InferenceResponse"]
    assert "marker-7f3a" not in str(outcomes[1])


async def test_a_deadline_ends_the_wait_and_not_the_model(predictor, tmp_path):
    with closed_gate(tmp_path) as gate:
        (outcome,) = await predictor.predict([request(gate=gate)], Deadline.after(0.05))
        assert isinstance(outcome, DeadlineExceeded)


async def test_expired_work_is_not_begun(predictor):
    (outcome,) = await predictor.predict([request(die=True)], Deadline.after(-1))
    assert isinstance(outcome, DeadlineExceeded)


async def test_a_cancelled_caller_leaves_the_others_answered(predictor, tmp_path):
    with closed_gate(tmp_path) as gate:
        first = asyncio.create_task(predictor.predict([request(gate=gate)], NO_DEADLINE))
        others = [asyncio.create_task(predictor.predict([request()], NO_DEADLINE)) for _ in range(4)]
        await asyncio.sleep(0)
        first.cancel()
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], asyncio.CancelledError)
    for (outcome,) in await asyncio.gather(*others):
        assert outcome.outputs["rows"].tolist() == [1]


async def test_code_needs_trust(tmp_path):
    package = open_package(probe(tmp_path / "probe"), tmp_path / "home")
    for kind in PLACEMENTS.values():
        with pytest.raises(InvalidPackage, match="--trust-code") as caught:
            await kind().start(package, "1")
        assert caught.value.reason is Reason.UNTRUSTED_CODE


async def test_a_failed_load_says_so_without_the_models_own_words(placement, tmp_path):
    folder = probe(tmp_path / "probe")
    (folder / "broken").write_text("")
    with pytest.raises(LimenError) as caught:
        await placement.start(open_package(folder, tmp_path / "home"), "1")
    assert "marker-7f3a" not in str(caught.value)


async def test_closing_closes_the_model_once(placement, tmp_path):
    folder = probe(tmp_path / "probe")
    found = await placement.start(open_package(folder, tmp_path / "home"), "1")
    await found.close()
    await found.close()
    assert (folder / "closed").exists()


@pytest.fixture
async def counter(placement, tmp_path):
    """A loaded model that streams."""
    folder = tmp_path / "counter"
    folder.mkdir()
    (folder / "model.yaml").write_text(STREAM_MANIFEST)
    (folder / "model.py").write_text(STREAMING)
    found = await placement.start(open_package(folder, tmp_path / "home"), "1")
    found.folder = folder
    yield found
    assert await parts(found, 2) == [0, 1]
    await found.close()


async def parts(predictor, upto):
    """Return what a stream gives."""
    inputs = {"upto": np.array([upto], np.int64)}
    stream = predictor.stream(InferenceRequest("counter", inputs, "1", rows=1), NO_DEADLINE)
    return [int(part.outputs["n"][0]) async for part in stream]


async def test_a_stream_gives_every_part_in_order(counter):
    assert counter.can_stream
    assert await parts(counter, 5) == [0, 1, 2, 3, 4]


async def test_a_stream_that_breaks_off_ends_in_an_error(counter):
    with pytest.raises(ModelFailed) as caught:
        await parts(counter, 9)
    assert "marker-7f3a" not in str(caught.value)


async def test_leaving_a_stream_stops_it(counter):
    inputs = {"upto": np.array([1 << 40], np.int64)}
    stream = counter.stream(InferenceRequest("counter", inputs, "1", rows=1), NO_DEADLINE)
    await anext(stream)
    await stream.aclose()
    assert await asyncio.wait_for(parts(counter, 1), 10) == [0]
    assert (counter.folder / "stopped").exists()


async def test_f01_a_killed_replica_is_replaced_and_its_callers_are_told(tmp_path):
    package = open_package(probe(tmp_path / "probe"), tmp_path / "home")
    predictor = await ProcessPlacement(trust_code=True).start(package, "1")
    before = predictor.pid
    assert before != os.getpid()
    (outcome,) = await predictor.predict([request(die=True)], NO_DEADLINE)
    assert isinstance(outcome, ModelFailed)
    outcome = await answered(predictor)
    assert outcome.outputs["pid"].tolist() == [predictor.pid] != [before]
    assert predictor.restarts == 1
    await predictor.close()


async def test_closing_ends_the_replica_process(tmp_path):
    package = open_package(probe(tmp_path / "probe"), tmp_path / "home")
    predictor = await ProcessPlacement(trust_code=True).start(package, "1")
    pid = predictor.pid
    await predictor.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIG_DFL)
