"""Single steps of a request in this process, next to the least code that could do the same work.

The least code trusts its input: one JSON (or protobuf) decode and one NumPy array. The ratio says what checking, naming and
reporting cost, so a change that makes a step slower shows here before it shows under load. `python -m benchmarks micro`.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np
import orjson

from benchmarks import fraud, report, servers
from benchmarks.bare import grpc as bare_grpc
from benchmarks.bare import http as bare
from benchmarks.loads import LENGTH_HEADER, Load, loads
from benchmarks.whole import Ask, Served
from limen.contracts.contract import Batching, Contract, Field
from limen.contracts.inference import InferenceResponse
from limen.contracts.tensors import Array
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.gateway.engine.message import Response
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.oip.codec import decode_request, encode_response
from limen.gateway.http.oip.answers import encode_json, encode_mixed
from limen.gateway.http.oip.tensors import decode_infer
from limen.packaging.archive.package import open_package
from limen.runtime.sandbox.allocator import keep_buffers
from limen.telemetry.metrics.series import Metrics

Work = Callable[[], Any]
FIELDS: Final = 20
REPEATS: Final = 9
REPEAT_S: Final = 0.03


class Step(msgspec.Struct, frozen=True):
    """One step, in microseconds: the best of several repeats, because noise only ever adds."""

    name: str
    limen_us: float
    least_us: float

    @property
    def ratio(self) -> float:
        """How many times the least it costs."""
        return self.limen_us / self.least_us


class MicroResults(msgspec.Struct, frozen=True):
    """What is written to the file."""

    machine: report.Machine
    steps: list[Step]


def main(arguments: Sequence[str]) -> int:
    """Time every step whose name holds the given text, print a line each and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks micro", description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="steps whose name holds this text")
    wanted = parser.parse_args(arguments).only
    home = servers.ROOT / ".limen" / "bench"
    home.mkdir(parents=True, exist_ok=True)
    facts = report.machine()
    keep_buffers()
    found: list[Step] = []
    print(f"{'step':<34}{'Limen µs':>10}{'least µs':>10}{'extra µs':>10}{'ratio':>8}")
    for step in _steps(fraud.prepare(home), wanted):
        found.append(step)
        extra = step.limen_us - step.least_us
        print(
            f"{step.name:<34}{step.limen_us:>10.2f}{step.least_us:>10.2f}{extra:>10.2f}{step.ratio:>8.2f}", flush=True
        )
    file = home / f"micro-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(MicroResults(facts, found)), indent=1) + b"\n")
    print(file)
    return 0


def _steps(model: fraud.Fraud, wanted: str) -> Iterator[Step]:
    table = {load.name: load for load in loads(model)}
    for name, limen, least in (
        *_tensor_steps(model, table),
        *_record_steps(),
        *_answer_steps(),
        *_check_steps(),
        *_count_steps(),
    ):
        if wanted in name:
            yield Step(name, _best(limen), _best(least))
    if chosen := [load for load in table.values() if wanted in _whole_name(load)]:
        yield from asyncio.run(_whole(model, chosen))


def _best(work: Work) -> float:
    """Return the microseconds of one call, the least of several repeats."""
    timer = timeit.Timer(work)
    once = max(timer.timeit(5) / 5, 1e-7)
    number = max(1, int(REPEAT_S / once))
    return min(timer.repeat(REPEATS, number)) / number * 1e6


# ---- decoding and checking -----------------------------------------------------------------------------------------------


def _tensor_steps(model: fraud.Fraud, table: dict[str, Load]) -> Iterator[tuple[str, Work, Work]]:
    check = ContractCheck(open_package(model.package, model.package.parent).manifest.contract)
    for rows in (1, 256):
        flat = table[f"json-{rows}"].body
        yield f"decode json {rows}", partial(_tensors, check, flat, None), partial(_least_json, flat)
        document = orjson.loads(flat)
        document["inputs"][0]["data"] = model.rows[:rows]
        nested = orjson.dumps(document)
        yield f"decode json {rows} nested", partial(_tensors, check, nested, None), partial(_least_json, nested)
        binary = table[f"binary-{rows}"]
        body, length = binary.body, int(binary.headers[LENGTH_HEADER])
        yield f"decode binary {rows}", partial(_tensors, check, body, length), partial(_least_binary, body, length)
        message = table[f"grpc-{rows}"].body[5:]
        yield f"decode grpc {rows}", partial(_grpc_tensors, check, message), partial(_least_grpc, message)


def _tensors(check: ContractCheck, body: bytes, length: int | None) -> int:
    return check.check_inputs(decode_infer(body, length)[0].inputs)


def _grpc_tensors(check: ContractCheck, message: bytes) -> int:
    return check.check_inputs(decode_request(pb.ModelInferRequest.FromString(message))[0].inputs)


def _least_json(body: bytes) -> Any:
    tensor = orjson.loads(body)["inputs"][0]
    return np.array(tensor["data"], np.float32).reshape(tensor["shape"])


def _least_binary(body: bytes, length: int) -> Any:
    tensor = orjson.loads(body[:length])["inputs"][0]
    return np.frombuffer(body, np.float32, offset=length).reshape(tensor["shape"])


def _least_grpc(data: bytes) -> Any:
    message = pb.ModelInferRequest.FromString(data)
    return np.frombuffer(message.raw_input_contents[0], np.float32).reshape(message.inputs[0].shape[:])


def _record_steps() -> Iterator[tuple[str, Work, Work]]:
    names = [f"field_{i}" for i in range(FIELDS)]
    fields = tuple(Field(name=name, type="float32", minimum=0, maximum=1000) for name in names)
    contract = Contract(
        name="records", inputs=fields, outputs=(Field(name="y", type="float32"),), batching=Batching(max_rows=256)
    )
    codec = RecordCodec(contract)
    values = np.random.default_rng(3).integers(0, 1_000_000, (256, FIELDS)) / 1000
    for rows in (1, 256):
        records = [dict(zip(names, row, strict=True)) for row in values[:rows].tolist()]
        body = orjson.dumps({"instances": records})
        yield f"decode records {rows}x{FIELDS}", partial(codec.decode, body), partial(_least_records, body, names)


def _least_records(body: bytes, names: list[str]) -> Any:
    return np.array([[row[name] for name in names] for row in orjson.loads(body)["instances"]], np.float32)


# ---- checking and encoding -----------------------------------------------------------------------------------------------


def _answer_steps() -> Iterator[tuple[str, Work, Work]]:
    output = Field(name=fraud.OUTPUT, type="float32", minimum=0, maximum=1)
    contract = Contract(name=fraud.NAME, inputs=(Field(name="x", type="float32"),), outputs=(output,))
    check = ContractCheck(contract)

    def answer(array: Array) -> InferenceResponse:
        return InferenceResponse(fraud.NAME, "1", check.check_outputs({fraud.OUTPUT: array}, len(array)))

    def binary(array: Array) -> Response:
        return encode_mixed(answer(array), (), binary=True)

    def json(array: Array) -> bytes:
        return encode_json(answer(array))

    def grpc(array: Array) -> bytes:
        return encode_response(answer(array))

    for rows in (1, 256):
        # As the model gives it: one column of its matrix.
        array = np.random.default_rng(3).random((rows, 2), np.float32)[:, 1]
        yield f"answer json {rows}", partial(json, array), partial(bare.encode_json, array)
        yield f"answer binary {rows}", partial(binary, array), partial(bare.encode_binary, array)
        yield f"answer grpc {rows}", partial(grpc, array), partial(_least_answer, array)


def _least_answer(array: Array) -> bytes:
    return bare_grpc.encode(array).SerializeToString()


def _check_steps() -> Iterator[tuple[str, Work, Work]]:
    """Check answers against limits of each kind, next to looking for numbers that are not finite and values that are no text."""
    kinds: dict[str, tuple[Field, Array]] = {
        "range": (Field(name="y", type="float32", minimum=0, maximum=1), np.full(256, 0.5, np.float32)),
        "classes": (Field(name="y", type="int64", enum=(0, 1, 2)), np.zeros(256, np.int64)),
        "labels": (Field(name="y", type="string", enum=("low", "high")), np.array(["low", "high"] * 128, object)),
        "pattern": (
            Field(name="y", type="string", pattern="^[A-Z]{2}[0-9]{6}$"),
            np.array([f"GB{i:06}" for i in range(256)], object),
        ),
    }
    for kind, (field, values) in kinds.items():
        contract = Contract(name="answers", inputs=(Field(name="x", type="float32"),), outputs=(field,))
        check = ContractCheck(contract).check_outputs
        least = _least_texts if values.dtype.kind == "O" else _least_numbers
        for rows in (1, 256):
            array = values[:rows]
            yield f"check answer {kind} {rows}", partial(check, {"y": array}, rows), partial(least, array)


def _least_numbers(array: Array) -> bool:
    return bool(np.isfinite(array).all())


def _least_texts(array: Array) -> bool:
    return all(type(value) is str for value in array.flat)


# ---- counting ---------------------------------------------------------------------------------------------------------------


def _count_steps() -> Iterator[tuple[str, Work, Work]]:
    metrics = Metrics()
    series, runtime = metrics.series(fraud.NAME, "1", "rest"), metrics.runtime(fraud.NAME, "1")
    cells = [0.0, 0.0]
    yield "count answer", partial(series.answered, 0.002, 1), partial(_least_count, cells, 0.002)
    yield "count run", partial(runtime.ran, 8, 0.002, 4), partial(_least_count, cells, 0.002)


def _least_count(cells: list[float], seconds: float) -> None:
    cells[0] += 1.0
    cells[1] += seconds


# ---- from bytes to bytes, with the model -----------------------------------------------------------------------------------


async def _whole(model: fraud.Fraud, chosen: list[Load]) -> list[Step]:
    """Time whole requests through the gateways, the data plane and the model."""
    served = await Served.start(model)
    found = []
    for load in chosen:
        limen, least = await best_awaited(served.limen(load)), await best_awaited(served.bare(load))
        found.append(Step(_whole_name(load), limen, least))
    await served.stop()
    return found


def _whole_name(load: Load) -> str:
    return f"whole {load.protocol} {load.rows}"


async def best_awaited(work: Ask) -> float:
    """Return the microseconds of one request, the least of several repeats."""
    # The first runs go to the model's thread until its cost is known.
    for _ in range(50):
        await work()
    best = float("inf")
    for _ in range(REPEATS):
        count, started = 0, time.perf_counter()
        while (used := time.perf_counter() - started) < REPEAT_S:
            for _ in range(5):
                await work()
            count += 5
        best = min(best, used / count)
    return best * 1e6
