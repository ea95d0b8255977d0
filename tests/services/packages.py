"""Small packages for tests that need a real server: each function writes one folder and returns it."""

from pathlib import Path
from textwrap import dedent

import numpy as np

SCORE_WEIGHTS = np.array([[0.5], [0.25]], np.float32)
SPECIES = ("setosa", "versicolor", "virginica")
SPECIES_WEIGHTS = np.array([[0.1, 0.2, -0.3], [0.4, -0.5, 0.6], [-0.7, 0.8, 0.9], [0.2, 0.1, 0.4]], np.float32)


def write_score(folder: Path, name: str = "score", *, golden: float = 2.0, examples: str = "") -> Path:
    """Write an ONNX model that answers `0.5 * amount + 0.25 * age`; its golden answer is 2.0."""
    manifest = f"""\
    name: {name}
    title: Score
    backend: onnx
    artifact: model.onnx
    inputs:
      - {{name: amount, type: float32, unit: USD, minimum: 0, maximum: 1000}}
      - {{name: age, type: int32, unit: years, minimum: 0, maximum: 130}}
    outputs:
      - {{name: score, type: float32}}
    bind:
      inputs: {{x: [amount, age]}}
      outputs: {{score: {{tensor: y, column: 0}}}}
    """
    examples = examples or f"examples: [{{name: golden, inputs: {{amount: 3, age: 2}}, outputs: {{score: {golden}}}}}]"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(dedent(manifest) + examples + "\n")
    _write_matmul(folder / "model.onnx", SCORE_WEIGHTS, softmax=False)
    return folder


def write_weights(package: Path, weights: list[list[float]]) -> None:
    """Give a package of `write_score` other weights, and so other answers."""
    _write_matmul(package / "model.onnx", np.array(weights, np.float32), softmax=False)


def write_iris(folder: Path) -> Path:
    """Write an ONNX classifier from four floats to three labelled probabilities."""
    manifest = """\
    name: iris
    backend: onnx
    artifact: model.onnx
    inputs:
      - {name: x, type: float32, shape: [4], minimum: -100, maximum: 100}
    outputs:
      - {name: y, type: float32, shape: [3], labels: [setosa, versicolor, virginica]}
    """
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(dedent(manifest))
    _write_matmul(folder / "model.onnx", SPECIES_WEIGHTS, softmax=True)
    return folder


def write_code(folder: Path, manifest: str, code: str) -> Path:
    """Write a package of Python code: `model.py` and the fields of its manifest."""
    folder.mkdir(parents=True)
    head = f"name: {folder.name}\nbackend: python\nartifact: model.py:Model\n"
    (folder / "model.yaml").write_text(head + dedent(manifest))
    (folder / "model.py").write_text(dedent(code))
    return folder


def write_gate(folder: Path) -> Path:
    """Write a model that says on a Unix socket that it was asked and answers only when the test closes its end."""
    manifest = """\
    inputs:
      - {name: socket, type: string, examples: [""]}
    outputs:
      - {name: answer, type: string}
    batching: {merge: false}
    serving: {hang_after_s: 300}
    """
    code = """\
    import socket


    class Model:
        def predict(self, inputs):
            for path in inputs["socket"]:
                if path:
                    with socket.socket(socket.AF_UNIX) as gate:
                        gate.connect(path)
                        gate.recv(1)
            return {"answer": ["done"] * len(inputs["socket"])}
    """
    return write_code(folder, manifest, code)


def write_countdown(folder: Path) -> Path:
    """Write a streaming model: the first row's `n` gives the parts n, n-1, … 1; a negative one breaks off after the first."""
    manifest = """\
    inputs: [{name: n, type: int32, minimum: -1, maximum: 1000}]
    outputs: [{name: value, type: int32}]
    """
    code = """\
    import numpy as np


    class Model:
        def predict(self, inputs):
            return {"value": inputs["n"]}

        def stream(self, inputs):
            n, rows = int(inputs["n"][0]), len(inputs["n"])
            if n < 0:
                yield {"value": np.full(rows, n, np.int32)}
                raise RuntimeError("the secret of the model")
            for value in range(n, 0, -1):
                yield {"value": np.full(rows, value, np.int32)}
    """
    return write_code(folder, manifest, code)


def write_slow(folder: Path) -> Path:
    """Write a model that takes as long as it is told."""
    manifest = """\
    inputs: [{name: seconds, type: float32, minimum: 0, maximum: 10, examples: [0]}]
    outputs: [{name: seconds, type: float32}]
    """
    code = """\
    import time


    class Model:
        def predict(self, inputs):
            time.sleep(float(inputs["seconds"].max()))
            return inputs
    """
    return write_code(folder, manifest, code)


def write_echo(folder: Path) -> Path:
    """Write a model that answers its optional inputs of every type under the same names with `_out`."""
    types = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    types += ("float16", "float32", "float64", "string", "bytes")
    zeros = {"bool": "false", "string": "''", "bytes": "''"}
    lines = ["inputs:"]
    lines += [
        f"  - {{name: {t}_in, type: {t}, shape: [2], default: [{zeros.get(t, '0')}, {zeros.get(t, '0')}]}}"
        for t in types
    ]
    lines += ["outputs:", *(f"  - {{name: {t}_out, type: {t}, shape: [2]}}" for t in types)]
    code = """\
    class Model:
        def predict(self, inputs):
            return {name.replace("_in", "_out"): value for name, value in inputs.items()}
    """
    return write_code(folder, "\n".join(lines) + "\n", code)


def write_fields(folder: Path) -> Path:
    """Write a model whose inputs use every rule a field can have; it answers how many rows it got."""
    manifest = """\
    inputs:
      - {name: grade, type: string, enum: [A, B, C]}
      - {name: zip, type: string, pattern: "^[0-9]{3}xx$"}
      - {name: note, type: string, min_length: 2, max_length: 5, default: none}
      - {name: income, type: float64, minimum: 0, nullable: true, unit: USD, sensitivity: personal}
      - {name: photo, type: bytes, default: QQ==}
      - {name: flags, type: bool, shape: [2], default: [true, false]}
      - {name: steps, type: int8, shape: [2, 2], minimum: -3, maximum: 3, default: [[0, 0], [0, 0]]}
      - {name: choice, type: uint64, enum: [1, 5], default: 5}
    outputs:
      - {name: rows, type: int64}
      - {name: kind, type: string, enum: [small, large]}
      - {name: raw, type: bytes}
      - {name: loose, type: float32, shape: [-1], finite: false}
    """
    code = """\
    import numpy as np


    class Model:
        def predict(self, inputs):
            rows = len(inputs["grade"])
            return {
                "rows": np.full(rows, rows, np.int64),
                "kind": ["small" if rows < 10 else "large"] * rows,
                "raw": [b"\\x00raw"] * rows,
                "loose": np.tile(np.array([1, np.nan, np.inf], np.float32), (rows, 1)),
            }
    """
    return write_code(folder, manifest, code)


def _write_matmul(path: Path, weights: np.ndarray, *, softmax: bool) -> None:
    from onnx import TensorProto, checker, helper, numpy_helper, save

    rows, columns = weights.shape
    product = "z" if softmax else "y"
    nodes = [helper.make_node("MatMul", ["x", "w"], [product])]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["z"], ["y"], axis=1))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", columns])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, str(path))


def write_sum_graph(path: Path) -> Path:
    """Write an ONNX graph alone, with two inputs by name: `total` is `a + b`."""
    from onnx import TensorProto, checker, helper, save

    a, b, total = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in ("a", "b", "total"))
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["total"])], "sum", [a, b], [total])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, path)
    return path


def write_product(folder: Path, factor: float) -> Path:
    """Write an ONNX package whose `y` is `factor * x`; the factor is in the file as a float32, and in its golden example."""
    from onnx import TensorProto, helper, numpy_helper, save

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in "xy")
    weight = numpy_helper.from_array(np.array(factor, np.float32), "factor")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "product", [x], [y], [weight])
    folder.mkdir()
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    manifest = f"""\
    name: steady
    title: Times {factor:g}
    backend: onnx
    artifact: model.onnx
    inputs: [{{name: x, type: float32}}]
    outputs: [{{name: y, type: float32}}]
    examples: [{{name: three, inputs: {{x: 3}}, outputs: {{y: {3 * factor}}}}}]
    """
    (folder / "model.yaml").write_text(dedent(manifest))
    return folder


def write_trouble(folder: Path, factor: float = 1.0, *, serving: str = "", more: str = "", slow_s: float = 0.0) -> Path:
    """Write a Python model that answers `factor * x`, unless `x` asks for trouble.

    -1 ends its process, -2 never ends, -3 takes a gigabyte, -4 keeps a mebibyte for ever; `work_ms` is how long an answer takes,
    of the values in `WORK`: rows that are made up to try a model ask for none.
    For `slow_s` seconds each it burns a core while it is loaded and in its first run.
    """
    manifest = f"""\
    inputs:
      - {{name: x, type: float64}}
      - {{name: work_ms, type: float64, default: 0}}
    outputs: [{{name: y, type: float64}}]
    batching: {{max_rows: 8}}
    {serving}
    {more}
    """
    code = f"""\
    import os
    import time

    import numpy as np

    KEPT = []
    FIRST = []
    WORK = (50, 200, 900)


    def burn():
        end = time.monotonic() + {slow_s}
        while time.monotonic() < end:
            pass


    burn()


    class Model:
        def predict(self, inputs):
            if not FIRST:
                FIRST.append(burn())
            x = inputs["x"]
            if (x == -1).any():
                os._exit(3)
            while (x == -2).any():
                pass
            if (x == -3).any():
                np.ones(1 << 27).sum()
            if (x == -4).any():
                KEPT.append(os.urandom(1 << 20))
            time.sleep(max((w for w in inputs["work_ms"].tolist() if w in WORK), default=0) / 1000)
            return {{"y": x * {factor}}}
    """
    return write_code(folder, manifest, code)
