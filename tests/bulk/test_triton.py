"""Models of Triton repositories: the public configurations and those of Triton's own tests, asked with the tensors that Triton's callers send.

The graphs are made here, with the names, types and shapes of the public ones; each answer is compared with ONNX Runtime called directly on
the shapes that the graph has.
"""

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from limen.authoring.importing import ImportOptions, import_model
from limen.contracts.identity import LOCAL
from limen.contracts.inference import InferenceRequest
from limen.packaging.archive.package import open_package
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.versions.manager import VersionManager
from limen.serving.dataplane.plane import DataPlane
from tests.bulk.verdicts import Table, same

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

HEAD = 'name: "model"\nplatform: "onnxruntime_onnx"\n'
TYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "STRING": object,
}
SHAPES = [
    # dims, and the model's inputs instead
    ([1], None),
    ([16], None),
    ([-1], None),
    ([-1, -1], None),
    ([8, -1], None),
    ([2, 1, 3], None),
    ([1], []),
    ([4, 4], [16]),
    ([16], [1, 4, 4]),
    ([3, 8, 8], [1, 3, 8, 8]),
    ([-1], [-1, 1]),
    ([-1, 2], [1, -1, 2]),
]
"""As in Triton's tests of identity, variable sizes and reshape."""


class Case(NamedTuple):
    """One model of a repository, what a caller sends, and what the graph is asked then."""

    config: str
    graph: bytes
    sent: dict[str, np.ndarray]
    asked: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    """The shape that each answer has for the caller."""
    files: Mapping[str, str] = {}


def identity(names: Mapping[str, str], kind: str, shape: list[int | str | None]) -> bytes:
    """Return a graph that gives each input back under another name."""
    helper = onnx.helper
    element = helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[kind]))
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in names.items()]
    inputs = [helper.make_tensor_value_info(a, element, shape) for a in names]
    outputs = [helper.make_tensor_value_info(b, element, shape) for b in names.values()]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def values(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return values that differ from each other."""
    count = int(np.prod(shape))
    if kind == "STRING":
        texts = np.empty(count, object)
        texts[:] = [f"text {i} ü" for i in range(count)]
        return texts.reshape(shape)
    return (np.arange(count) % 101).astype(TYPES[kind]).reshape(shape)


def sized(dims: list[int]) -> tuple[int, ...]:
    return tuple(3 + i if d < 0 else d for i, d in enumerate(dims))


def free(dims: list[int]) -> list[int | str | None]:
    return [f"d{i}" if d < 0 else d for i, d in enumerate(dims)]


def identities() -> Iterator[tuple[str, Case]]:
    """Yield one model of every type, shape and reshape, with and without a batch."""
    for kind, (dims, reshape), batch in itertools.product(TYPES, SHAPES, (0, 1, 8)):
        inner = dims if reshape is None else reshape
        said = "" if reshape is None else f" reshape {{ shape: {reshape} }}"
        config = HEAD + f"max_batch_size: {batch}\n"
        for side, name in (("input", "INPUT0"), ("output", "OUTPUT0")):
            config += f'{side} [ {{ name: "{name}" data_type: TYPE_{kind} dims: {dims}{said} }} ]\n'
        rows = (min(batch, 3),) if batch else ()
        shape = (*rows, *sized(dims))
        size = int(np.prod(sized(dims)))
        known = int(np.prod([d for d in inner if d > 0], dtype=int))
        taken = (*rows, *(size // known if d < 0 else d for d in inner)) if reshape is not None else shape
        sent = values(kind, shape)
        graph = identity({"INPUT0": "OUTPUT0"}, kind, [*(["n"] if batch else []), *free(inner)])
        yield (
            f"identity {kind} {dims} {reshape} batch {batch}",
            Case(config, graph, {"INPUT0": sent}, {"INPUT0": sent.reshape(taken)}, {"OUTPUT0": shape}),
        )


def public() -> Iterator[tuple[str, Case]]:
    """Yield models with the configurations of Triton's examples and tutorials."""
    image = values("FP32", (3, 224, 224))
    densenet = (
        HEAD.replace("model", "densenet_onnx")
        + """
max_batch_size : 0
input [
  {
    name: "data_0"
    data_type: TYPE_FP32
    format: FORMAT_NCHW
    dims: [ 3, 224, 224 ]
    reshape { shape: [ 1, 3, 224, 224 ] }
  }
]
output [
  {
    name: "fc6_1"
    data_type: TYPE_FP32
    dims: [ 3, 224, 224 ]
    reshape { shape: [ 1, 3, 224, 224 ] }
    label_filename: "densenet_labels.txt"
  }
]
"""
    )
    labels = {"densenet_labels.txt": "\n".join(f"class {i % 7}" for i in range(224))}
    graph = identity({"data_0": "fc6_1"}, "FP32", [1, 3, 224, 224])
    yield (
        "densenet_onnx",
        Case(densenet, graph, {"data_0": image}, {"data_0": image[None]}, {"fc6_1": image.shape}, labels),
    )

    recognition = """
name: "text_recognition"
backend: "onnxruntime"
max_batch_size : 8
input [ { name: "input.1" data_type: TYPE_FP32 dims: [ 1, 32, 100 ] } ]
output [ { name: "308" data_type: TYPE_FP32 dims: [ 1, 32, 100 ] } ]
dynamic_batching { }
"""
    gray = values("FP32", (2, 1, 32, 100))
    graph = identity({"input.1": "308"}, "FP32", ["n", 1, 32, 100])
    yield "text_recognition", Case(recognition, graph, {"input.1": gray}, {"input.1": gray}, {"308": gray.shape})

    detection = """
name: "text_detection"
backend: "onnxruntime"
max_batch_size : 0
input [ { name: "input_images:0", data_type: TYPE_FP32, dims: [ -1, -1, -1, 3 ] } ],
output { name: 'feature_fusion/Conv_7/Sigmoid:0'; data_type: TYPE_FP32; dims: [ -1, -1, -1, 3 ] }
"""
    pixels = values("FP32", (1, 5, 7, 3))
    graph = identity({"input_images:0": "feature_fusion/Conv_7/Sigmoid:0"}, "FP32", ["n", "h", "w", 3])
    name = "feature_fusion/Conv_7/Sigmoid:0"
    yield (
        "text_detection",
        Case(detection, graph, {"input_images:0": pixels}, {"input_images:0": pixels}, {name: pixels.shape}),
    )

    simple = """
name: "simple"  # Triton's first example, in ONNX
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] }, { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] }, { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 16 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]
version_policy: { all { } }
"""
    first, second = values("INT32", (2, 16)), values("INT32", (2, 16)) * 3
    graph = identity({"INPUT0": "OUTPUT0", "INPUT1": "OUTPUT1"}, "INT32", ["n", 16])
    both = {"INPUT0": first, "INPUT1": second}
    yield "simple", Case(simple, graph, both, both, {"OUTPUT0": (2, 16), "OUTPUT1": (2, 16)})

    clashing = (
        simple.replace("INPUT0", "a.b").replace("INPUT1", "a_b").replace("OUTPUT0", "A b").replace("OUTPUT1", "a_B")
    )
    graph = identity({"a.b": "A b", "a_b": "a_B"}, "INT32", ["n", 16])
    both = {"a.b": first, "a_b": second}
    yield "names that clash", Case(clashing, graph, both, both, {"A b": (2, 16), "a_B": (2, 16)})

    yolo = (
        HEAD
        + """
input  < name: "images"  data_type: 11 dims: 1 dims: 3 dims: 0x10 dims: 020 >
output < name: "output0" data_type: 11 dims: [ 1, 3, 16, 16, ] >
model_transaction_policy { decoupled: False }
"""
    )
    frame = values("FP32", (1, 3, 16, 16))
    graph = identity({"images": "output0"}, "FP32", [1, 3, 16, 16])
    yield "yolo", Case(yolo, graph, {"images": frame}, {"images": frame}, {"output0": frame.shape})


REFUSED = {
    "sequence_batching": "max_batch_size: 8 sequence_batching { max_sequence_idle_microseconds: 5000000 }",
    "decoupled": "model_transaction_policy { decoupled: True }",
    "ragged": 'max_batch_size: 8 input { name: "INPUT0" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }',
    "batch_input": "max_batch_size: 8 batch_input { kind: BATCH_ELEMENT_COUNT target_name: 'I' data_type: TYPE_FP32 }",
    "optional": 'input { name: "INPUT0" data_type: TYPE_FP32 dims: 1 optional: true }',
    "shape tensor": 'input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 is_shape_tensor: true }',
    "ensemble": 'platform: "ensemble" ensemble_scheduling { step [ { model_name: "a" model_version: -1 } ] }',
    **{kind: f'platform: "{kind}"' for kind in ("tensorflow_graphdef", "tensorflow_savedmodel", "tensorrt_plan")},
    **{kind: f'backend: "{kind}"' for kind in ("pytorch", "python", "fil", "dali", "openvino", "vllm", "tensorrtllm")},
    "unknown field": "max_batch: 8",
    "reshape that holds other values": 'input { name: "INPUT0" data_type: TYPE_FP32 dims: 4 reshape { shape: 3 } }',
    "no such version": "version_policy { specific { versions: 7 } }",
}


def write(folder: Path, case: Case) -> Path:
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(case.graph)
    (folder / "config.pbtxt").write_text(case.config)
    for name, text in case.files.items():
        (folder / name).write_text(text)
    return folder


async def ask(package: Path, sent: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the answer to a request of tensors, through everything behind the protocols."""
    opened = open_package(package, package.parent)
    versions = VersionManager(InlinePlacement(trust_code=False))
    name = opened.manifest.contract.name
    versions.set_aspired(name, {"1": opened})
    try:
        await versions.settle()
        plane = DataPlane(versions)
        assert plane.directory.is_ready(), [status.reason for status in versions.statuses(name)]
        with plane.enter(LOCAL, name, "", "", "rest") as visit:
            return (await visit.infer(InferenceRequest(name, dict(sent)))).outputs
    finally:
        await versions.close()


def direct(case: Case) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(case.graph, providers=["CPUExecutionProvider"])
    found: Any = session.run(None, case.asked)
    names = [output.name for output in session.get_outputs()]
    return {name: array.reshape(case.shapes[name]) for name, array in zip(names, found, strict=True)}


def test_triton_models_answer_their_callers_as_triton_does(tmp_path):
    table = Table("Triton repositories")
    for i, (name, case) in enumerate(itertools.chain(public(), identities())):
        with table.judge(name):
            folder = write(tmp_path / f"m{i}" / "model", case)
            made = import_model(f"triton:{folder}", ImportOptions(folder=tmp_path / f"m{i}" / "package", name=f"m{i}"))
            same(asyncio.run(ask(made.created.folder, case.sent)), direct(case))
    table.conclude(right=440)


def test_what_cannot_be_kept_is_refused_by_name(tmp_path):
    table = Table("Triton configurations that cannot be kept")
    graph = identity({"INPUT0": "OUTPUT0"}, "FP32", ["n"])
    for i, (name, config) in enumerate(REFUSED.items()):
        head = "" if "platform" in config or "backend" in config else 'platform: "onnxruntime_onnx"\n'
        with table.judge(name):
            folder = write(tmp_path / f"m{i}" / "model", Case(head + config, graph, {}, {}, {}))
            import_model(f"triton:{folder}", ImportOptions(folder=tmp_path / f"m{i}" / "package", name="model"))
            raise AssertionError("it was imported")
    table.conclude(right=0)
    assert len(table.rows) == len(REFUSED)
