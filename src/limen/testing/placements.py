"""What every placement promises, as a test suite for placements that others bring. Needs pytest and pytest-asyncio.

Subclass `PlacementSuite` in a test module and say how a placement is made:

    class TestMyPlacement(PlacementSuite):
        def place(self, *, trust_code: bool) -> Placement:
            return MyPlacement(trust_code=trust_code)

Its coroutines are tests: set `asyncio_mode = "auto"` for pytest.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limen.contracts.errors import (
    DeadlineExceeded,
    ErrorCode,
    InvalidPackage,
    LimenError,
    ModelFailed,
    Reason,
    Refused,
    Violation,
)
from limen.contracts.inference import NO_DEADLINE, Deadline, InferenceRequest
from limen.contracts.tensors import Array
from limen.packaging.archive.package import open_package
from limen.runtime.batching.batcher import Batcher
from limen.runtime.placement import Placement
from limen.runtime.predictor import Sink
from limen.testing.asking import answer_of, ask, ask_all, closed_gate, send

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

import limen

class Probe:
    def load(self, path):
        self.path = pathlib.Path(path)
        if (self.path / "broken").exists():
            raise RuntimeError("marker-7f3a")

    def predict(self, inputs, parameters):
        if 13.0 in inputs["v_float64"]:
            raise RuntimeError("marker-7f3a")
        if 14.0 in inputs["v_float64"]:
            raise limen.Refused("needs a date of this year; see the price list", field="v_string")
        if parameters.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if gate := parameters.get("gate"):
            open(gate + ".entered", "w").close()
            with open(gate, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
        return {**inputs, "rows": np.full(len(inputs["v_float32"]), len(inputs["v_float32"]), np.int64),
                "pid": np.full(len(inputs["v_float32"]), os.getpid(), np.int64)}

    def close(self):
        (self.path / "closed").touch()
"""
STREAMING = """
import numpy as np

import limen

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
                if n == 3 and inputs["upto"][0] == 4:
                    raise limen.Refused("x" * 5000)
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
    """Write the probe package: every type in, the same out, with the process that answered."""
    fields = "\n".join(f"  - {{name: v_{t}, type: {t}}}" for t in TYPES)
    extra = "\n  - {name: rows, type: int64}\n  - {name: pid, type: int64}"
    folder.mkdir()
    (folder / "model.yaml").write_text(MANIFEST.format(inputs=fields, outputs=fields + extra))
    (folder / "model.py").write_text(CODE)
    return folder


def tensors(rows: int = 1) -> dict[str, Array]:
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


def request(rows: int = 1, **parameters: Any) -> InferenceRequest:
    """Return a request for the probe."""
    return InferenceRequest("probe", tensors(rows), "1", "an-id", parameters, rows=rows)


CURIOUS = """
import numpy as np

class Curious:
    def predict(self, inputs, context):
        said = f"{context.request_id} {context.model} {context.version} {sorted(context.parameters.items())}"
        return {"said": np.array([said] * len(inputs["x"]), object), "rows": np.full(len(inputs["x"]), len(inputs["x"]))}

    def stream(self, inputs, *, context):
        yield self.predict(inputs, context)
"""
CURIOUS_MANIFEST = """
name: curious
backend: python
artifact: model.py:Curious
inputs: [{name: x, type: float32}]
outputs: [{name: said, type: string}, {name: rows, type: int64}]
"""


async def parts(sink: Sink, upto: int) -> list[int]:
    """Return what the counter streams."""
    inputs = {"upto": np.array([upto], np.int64)}
    stream = sink.stream(InferenceRequest("counter", inputs, "1", rows=1), NO_DEADLINE)
    return [int(part.outputs["n"][0]) async for part in stream]


class PlacementSuite:
    """The promises. The probe and the counter are Python classes, so the placement has to run trusted code."""

    def place(self, *, trust_code: bool) -> Placement:
        """Return a new placement."""
        raise NotImplementedError

    @pytest.fixture
    def placement(self) -> Placement:
        """A placement that may run the code of packages."""
        return self.place(trust_code=True)

    @pytest.fixture
    async def sink(self, placement: Placement, tmp_path: Path) -> AsyncIterator[Sink]:
        """A loaded probe; at the end of the test it must still answer."""
        found = await placement.start(open_package(probe(tmp_path / "probe"), tmp_path / "home"), "1")
        yield found
        outcome = await ask(found, request())
        assert answer_of(outcome).outputs["rows"].tolist() == [1]
        await found.close()

    async def test_every_type_comes_back_as_it_went(self, sink: Sink) -> None:
        """Types, shapes and values are kept, NaN and zero bytes in texts included."""
        sent = tensors(3)
        outcome = answer_of(await ask(sink, InferenceRequest("probe", dict(sent), "1", "r-1", rows=3)))
        assert (outcome.model_name, outcome.model_version, outcome.id) == ("probe", "1", "r-1")
        for name, array in sent.items():
            assert outcome.outputs[name].dtype == array.dtype
            np.testing.assert_array_equal(outcome.outputs[name], array)

    async def test_more_rows_than_the_model_takes_are_run_in_parts_and_keep_their_order(self, sink: Sink) -> None:
        """`batching.max_rows` bounds each run."""
        outcome = answer_of(await ask(sink, request(10)))
        assert outcome.outputs["v_float32"].tolist() == list(range(10))
        assert outcome.outputs["rows"].tolist() == [4] * 8 + [2] * 2

    async def test_requests_of_several_rows_are_one_run_and_each_gets_its_own(self, sink: Sink) -> None:
        """A batch is one run."""
        batch = [request(rows) for rows in (1, 2, 1)]
        outcomes = [answer_of(outcome) for outcome in await ask_all(sink, batch)]
        assert [outcome.outputs["v_float32"].tolist() for outcome in outcomes] == [[0], [0, 1], [0]]
        assert [outcome.outputs["rows"].tolist() for outcome in outcomes] == [[4], [4, 4], [4]]

    async def test_one_failing_request_fails_alone_and_its_text_stays_here(self, sink: Sink) -> None:
        """Its neighbours in the batch are answered; no caller reads the exception."""
        bad = request()
        bad.inputs["v_float64"] = np.array([13.0])
        outcomes = await ask_all(sink, [request(), bad, request()])
        assert [type(outcome).__name__ for outcome in outcomes] == [
            "InferenceResponse",
            "ModelFailed",
            "InferenceResponse",
        ]
        assert "marker-7f3a" not in str(outcomes[1])

    async def test_a_request_that_the_model_refuses_is_refused_alone_in_the_models_own_words(self, sink: Sink) -> None:
        """`limen.Refused` reaches the caller as it is."""
        refused = request(2)
        refused.inputs["v_float64"] = np.array([1.0, 14.0])
        outcomes = await ask_all(sink, [request(), refused, request()])
        assert [type(outcome).__name__ for outcome in outcomes] == ["InferenceResponse", "Refused", "InferenceResponse"]
        error = outcomes[1]
        assert isinstance(error, Refused)
        assert (error.code, error.reason) == (ErrorCode.INVALID_ARGUMENT, Reason.REFUSED)
        assert error.message == "v_string: needs a date of this year; see the price list"
        assert error.violations == (Violation("v_string", "needs a date of this year; see the price list"),)

    async def test_a_class_that_asks_is_told_about_its_request_and_answers_one_at_a_time(
        self, placement: Placement, tmp_path: Path
    ) -> None:
        """A `context` argument gets the id, the version and the parameters of one request."""
        folder = tmp_path / "curious"
        folder.mkdir()
        (folder / "model.yaml").write_text(CURIOUS_MANIFEST)
        (folder / "model.py").write_text(CURIOUS)
        package = open_package(folder, tmp_path / "home")
        found = await placement.start(package, "7")
        assert found.wants_context
        batcher = Batcher(found, package.manifest.contract.batching)

        def asked(**more: Any) -> InferenceRequest:
            inputs = {"x": np.zeros(2, np.float32)}
            return InferenceRequest("curious", inputs, "7", parameters={"k": 1}, rows=2, **more)

        requests = [asked(id="a"), asked(log_id="b"), asked(id="c", log_id="other")]
        answers = await asyncio.gather(*(batcher.predict(request, NO_DEADLINE) for request in requests))
        outcomes = [answer_of(answer) for answer in answers]
        said = [outcome.outputs["said"].tolist() for outcome in outcomes]
        assert said == [[f"{name} curious 7 [('k', 1)]"] * 2 for name in "abc"]
        assert [outcome.outputs["rows"].tolist() for outcome in outcomes] == [[2, 2]] * 3
        assert [dict(request.parameters) for request in requests] == [{"k": 1}] * 3
        parts = [part.outputs["said"].tolist() async for part in found.stream(asked(id="d"), NO_DEADLINE)]
        assert parts == [["d curious 7 [('k', 1)]"] * 2]
        await batcher.close()

    async def test_expired_work_is_not_begun(self, sink: Sink) -> None:
        """The model is not asked when the deadline is over."""
        outcome = await ask(sink, request(die=True), Deadline.after(-1))
        assert isinstance(outcome, DeadlineExceeded)

    async def test_it_is_free_again_once_it_has_answered_and_says_so(self, sink: Sink) -> None:
        """`free` and `on_free` tell the batcher when to send."""
        freed = asyncio.Event()
        sink.on_free = freed.set
        assert sink.free == 1
        answer = send(sink, [request()])
        await asyncio.wait_for(answer, 60)
        await asyncio.wait_for(freed.wait(), 60)
        assert sink.free == 1

    async def test_a_cancelled_batch_leaves_the_next_one_answered(self, sink: Sink, tmp_path: Path) -> None:
        """Cancelling twice is harmless."""
        with closed_gate(tmp_path) as gate:
            cancel = sink.send([request(gate=gate.path)], NO_DEADLINE, lambda _: None)
            await gate.entered()
            cancel()
            cancel()
        outcome = answer_of(await ask(sink, request()))
        assert outcome.outputs["rows"].tolist() == [1]

    async def test_code_needs_trust(self, tmp_path: Path) -> None:
        """A Python class is the code of the author of the package."""
        package = open_package(probe(tmp_path / "probe"), tmp_path / "home")
        with pytest.raises(InvalidPackage, match="--trust-code") as caught:
            await self.place(trust_code=False).start(package, "1")
        assert caught.value.reason is Reason.UNTRUSTED_CODE

    async def test_a_failed_load_says_so_without_the_models_own_words(
        self, placement: Placement, tmp_path: Path
    ) -> None:
        """The cause is for the log, not for callers."""
        folder = probe(tmp_path / "probe")
        (folder / "broken").write_text("")
        with pytest.raises(LimenError) as caught:
            await placement.start(open_package(folder, tmp_path / "home"), "1")
        assert "marker-7f3a" not in str(caught.value)

    async def test_closing_closes_the_model_once(self, placement: Placement, tmp_path: Path) -> None:
        """A second `close` does nothing."""
        folder = probe(tmp_path / "probe")
        found = await placement.start(open_package(folder, tmp_path / "home"), "1")
        await found.close()
        await found.close()
        assert (folder / "closed").exists()

    @pytest.fixture
    async def counter(self, placement: Placement, tmp_path: Path) -> AsyncIterator[Sink]:
        """A loaded model that streams; at the end of the test it must still stream."""
        folder = tmp_path / "counter"
        folder.mkdir()
        (folder / "model.yaml").write_text(STREAM_MANIFEST)
        (folder / "model.py").write_text(STREAMING)
        found = await placement.start(open_package(folder, tmp_path / "home"), "1")

        yield found
        assert await parts(found, 2) == [0, 1]
        await found.close()

    async def test_a_stream_gives_every_part_in_order(self, counter: Sink) -> None:
        """Parts come as the model gives them."""
        assert counter.can_stream
        assert await parts(counter, 5) == [0, 1, 2, 3, 4]

    async def test_a_stream_that_breaks_off_ends_in_an_error(self, counter: Sink) -> None:
        """The parts before it were delivered."""
        with pytest.raises(ModelFailed) as caught:
            await parts(counter, 9)
        assert "marker-7f3a" not in str(caught.value)

    async def test_a_stream_may_be_refused_and_a_long_message_is_cut(self, counter: Sink) -> None:
        """At 1,000 characters."""
        with pytest.raises(Refused) as caught:
            await parts(counter, 4)
        assert caught.value.message == "x" * 1000

    async def test_leaving_a_stream_stops_it(self, counter: Sink, tmp_path: Path) -> None:
        """The model's generator is closed."""
        inputs = {"upto": np.array([1 << 40], np.int64)}
        stream = counter.stream(InferenceRequest("counter", inputs, "1", rows=1), NO_DEADLINE)
        await anext(stream)
        await stream.aclose()
        assert await asyncio.wait_for(parts(counter, 1), 60) == [0]
        assert (tmp_path / "counter" / "stopped").exists()
