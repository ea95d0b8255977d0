"""Finds operators of an ONNX graph that compute across all rows of a run, so that rows affect each other's answers.

Read from the graph, before anything runs: a test with rows that differ (`runtime.versions.independence`) shows most of this too, but not where
the model gives only a class, and it cannot name the place. Only what is certain is told. Not here: whether the rows of a run are told
apart at all. Called by `backends.onnx`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

ROWS: Final = "limen:rows"
"""Stands for the number of rows while shapes are worked out."""
_KEPT_BYTES: Final = 4096
"""Larger weights say nothing about shapes."""
_WHOLE_TENSOR: Final = frozenset(["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"])
"""Take one scale from everything they are given."""
_REDUCTIONS: Final = frozenset(
    f"Reduce{kind}" for kind in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
)
_ALONG: Final = frozenset(
    [
        "Softmax",
        "LogSoftmax",
        "Hardmax",
        "LpNormalization",
        "CumSum",
        "TopK",
        "ArgMax",
        "ArgMin",
        "Unique",
        "ReverseSequence",
    ]
)
_DEFAULT_AXIS: Final = {"ArgMax": 0, "ArgMin": 0, "ReverseSequence": 1}


def mixing_of(model: Any, onnx: Any) -> str:
    """Return the first place of a graph that computes over all rows, in words; empty when none is known.

    Args:
        model: the graph as it was read. Its large weights are dropped.
        onnx: the library.
    """
    first = _row_first(model, onnx)
    constants = {t.name: t for t in model.graph.initializer}
    constants |= {
        n.output[0]: a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"
    }
    fed = {value.name for value in model.graph.input} - constants.keys()
    for node in model.graph.node:
        if not fed.intersection(node.input) and not _has_graph(node):
            continue
        fed.update(node.output)
        if _mixes(node, first, constants, onnx):
            name = f" {node.name!r}" if node.name else ""
            return f"the graph's {node.op_type}{name} computes over all rows of a run"
    inner = next((node for graph in _inner_graphs(model) for node in graph.node if _takes_everything(node)), None)
    return "" if inner is None else f"the graph's {inner.op_type} computes over all rows of a run"


def _row_first(model: Any, onnx: Any) -> dict[str, int]:
    """Return the tensors whose first axis is the rows, with how many axes they have."""
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.ByteSize() > _KEPT_BYTES:
            for field in ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data"):
                tensor.ClearField(field)
    for value in graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if len(dimensions) and not dimensions[0].dim_value:
            dimensions[0].dim_param = ROWS
    # What the file says about shapes inside may name the rows otherwise.
    del graph.value_info[:]
    try:
        shaped = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # noqa: BLE001 - a graph whose shapes cannot be worked out tells nothing; the test of the rows does
        return {}
    found = {}
    for value in (*shaped.graph.input, *shaped.graph.value_info, *shaped.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if len(dimensions) and dimensions[0].dim_param == ROWS:
            found[value.name] = len(dimensions)
    return found


def _mixes(node: Any, first: dict[str, int], constants: dict[str, Any], onnx: Any) -> bool:
    if _takes_everything(node):
        return True
    axes = first.get(node.input[0]) if node.input else None
    if axes is None:
        return False
    if node.op_type in _REDUCTIONS:
        along = _reduced(node, constants, onnx)
        return along is not None and (0 in along or -axes in along)
    if node.op_type in _ALONG:
        axis = _axis(node, constants, onnx)
        return axis in (0, -axes)
    return False


def _takes_everything(node: Any) -> bool:
    if node.op_type == "BatchNormalization":
        return any(a.name == "training_mode" and a.i for a in node.attribute)
    return node.op_type in _WHOLE_TENSOR


def _reduced(node: Any, constants: dict[str, Any], onnx: Any) -> tuple[int, ...] | None:
    """Return the axes that a reduction goes over; None when they are not in the file."""
    given = next((tuple(a.ints) for a in node.attribute if a.name == "axes"), ())
    if not given and len(node.input) > 1 and node.input[1]:
        tensor = constants.get(node.input[1])
        if tensor is None:
            return None
        given = tuple(int(v) for v in onnx.numpy_helper.to_array(tensor).flat)
    if given:
        return given
    is_nothing = any(a.name == "noop_with_empty_axes" and a.i for a in node.attribute)
    return () if is_nothing else (0,)


def _axis(node: Any, constants: dict[str, Any], onnx: Any) -> int | None:
    if node.op_type == "CumSum":
        tensor = constants.get(node.input[1])
        return None if tensor is None else int(onnx.numpy_helper.to_array(tensor).flat[0])
    if node.op_type == "Unique" and not any(a.name == "axis" for a in node.attribute):
        return 0
    name = "time_axis" if node.op_type == "ReverseSequence" else "axis"
    default = _DEFAULT_AXIS.get(node.op_type, -1)
    return next((int(a.i) for a in node.attribute if a.name == name), 0 if name == "time_axis" else default)


def _has_graph(node: Any) -> bool:
    return any(a.HasField("g") or a.graphs for a in node.attribute)


def _inner_graphs(model: Any) -> Iterator[Any]:
    """Yield the functions of a model and the graphs inside its control flow."""
    waiting = [*model.functions, *(g for node in model.graph.node for g in _graphs_of(node))]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting.extend(g for node in graph.node for g in _graphs_of(node))


def _graphs_of(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g
