"""The typed service of a model next to ModelInfer, in one process and one run: `python -m benchmarks typed`.

The same rows go through both: as one raw tensor for each field, which is the cheapest form the Open Inference Protocol has, and as
messages of named fields. The ratio says what names, presence and types for each value cost.
"""

from __future__ import annotations

import argparse
import asyncio
import timeit
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pool, message_factory

from benchmarks import fraud
from benchmarks.loads import loads
from benchmarks.micro import best_awaited
from benchmarks.servers import ROOT
from benchmarks.whole import Served
from limen.contracts.contract import Batching, Contract, Field
from limen.contracts.inference import InferenceResponse
from limen.contracts.oip.wire import encode_raw
from limen.contracts.proto.descriptor import file_descriptor
from limen.contracts.tensors import Array
from limen.contracts.validation.tensors import ContractCheck
from limen.gateway.grpc._generated import open_inference_pb2 as pb
from limen.gateway.grpc.oip.codec import decode_request, encode_response
from limen.gateway.grpc.typed.codec import TypedCodec
from limen.packaging.archive.package import open_package

REPEATS: Final = 9
REPEAT_S: Final = 0.03
GRADES: Final = ("A", "B", "C", "D")

Work = Callable[[], Any]


def main(arguments: Sequence[str]) -> int:
    """Time every step and print a line each."""
    argparse.ArgumentParser(prog="python -m benchmarks typed", description=__doc__).parse_args(arguments)
    print(f"{'step':<34}{'typed µs':>10}{'infer µs':>10}{'ratio':>8}")
    for contract in (_floats(), _vector(), _mixed()):
        for rows in (1, 256):
            for name, typed, infer in _steps(contract, rows):
                _print(name, _best(typed), _best(infer))
    home = ROOT / ".limen" / "bench"
    home.mkdir(parents=True, exist_ok=True)
    asyncio.run(_whole(fraud.prepare(home)))
    return 0


def _print(name: str, typed_us: float, infer_us: float) -> None:
    print(f"{name:<34}{typed_us:>10.2f}{infer_us:>10.2f}{typed_us / infer_us:>8.2f}", flush=True)


async def _whole(model: fraud.Fraud) -> None:
    """Time whole calls of the model that all benchmarks run, without sockets."""
    served = await Served.start(model)
    table = {load.name: load for load in loads(model)}
    for rows in (1, 256):
        contract = open_package(model.package, model.package.parent).manifest.contract
        tensors = {fraud.INPUT: np.array(model.rows[:rows], np.float32)}
        typed = partial(served.typed, _typed_message(contract, tensors, rows))
        infer = served.limen(table[f"grpc-{rows}"])
        _print(f"whole call, {rows} rows of 30", await best_awaited(typed), await best_awaited(infer))
    await served.stop()


def _best(work: Work) -> float:
    timer = timeit.Timer(work)
    number = max(1, int(REPEAT_S / max(timer.timeit(5) / 5, 1e-7)))
    return min(timer.repeat(REPEATS, number)) / number * 1e6


def _floats() -> Contract:
    fields = tuple(Field(name=f"field_{i}", type="float32", minimum=0, maximum=1) for i in range(20))
    return _contract("20 floats", fields)


def _vector() -> Contract:
    return _contract("vector of 30", (Field(name="x", type="float32", shape=(30,)),))


def _mixed() -> Contract:
    fields = (
        Field(name="amount", type="float32", minimum=0),
        Field(name="months", type="int16", enum=(36, 60)),
        Field(name="grade", type="string", enum=GRADES),
        Field(name="years", type="float32", nullable=True),
        Field(name="is_new", type="bool"),
        Field(name="count", type="int64"),
    )
    return _contract("mixed of 6", fields)


def _contract(title: str, inputs: tuple[Field, ...]) -> Contract:
    outputs = (Field(name="score", type="float32"), Field(name="decision", type="string"))
    return Contract(name="typed", title=title, inputs=inputs, outputs=outputs, batching=Batching(max_rows=256))


def _steps(contract: Contract, rows: int) -> Iterator[tuple[str, Work, Work]]:
    tensors = {f.name: _values(f, rows) for f in contract.inputs}
    check, codec = ContractCheck(contract), TypedCodec(contract, contract.name)
    typed, infer = _typed_message(contract, tensors, rows), _infer_message(contract, tensors)
    yield (
        f"decode {contract.title}, {rows} rows",
        lambda: codec.decode(codec.open(typed), check),
        lambda: check.check_inputs(decode_request(pb.ModelInferRequest.FromString(infer))[0].inputs),
    )
    answer = InferenceResponse(
        "typed",
        "1",
        {"score": np.linspace(0, 1, rows, dtype=np.float32), "decision": np.array(["accept"] * rows, object)},
    )
    if contract.title == "mixed of 6":
        yield f"encode 2 outputs, {rows} rows", lambda: codec.encode(answer, "r-1"), lambda: encode_response(answer)


def _values(field: Field, rows: int) -> Array:
    generator = np.random.default_rng(3)
    if field.enum is not None:
        return np.array([field.enum[i % len(field.enum)] for i in range(rows)], field.element.dtype)
    if field.is_float:
        return generator.random((rows, *field.shape), np.float32)
    return generator.integers(0, 2 if field.type == "bool" else 1_000_000, rows).astype(field.element.dtype)


def _typed_message(contract: Contract, tensors: dict[str, Array], rows: int) -> bytes:
    file = file_descriptor(contract)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.PredictRequest"))
    columns = {name: array.tolist() for name, array in tensors.items()}
    instances = [{name: column[i] for name, column in columns.items()} for i in range(rows)]
    data: bytes = kind(instances=instances).SerializeToString()
    return data


def _infer_message(contract: Contract, tensors: dict[str, Array]) -> bytes:
    request = pb.ModelInferRequest(model_name=contract.name)
    for field in contract.inputs:
        array = tensors[field.name]
        request.inputs.add(name=field.name, datatype=field.wire, shape=array.shape)
        request.raw_input_contents.append(encode_raw(array))
    return request.SerializeToString()
