"""The classification extension: the N best classes of an output as text, `<value>:<index>[:<label>]`.

Source: Triton's classification extension; its code gives datatype BYTES and six decimals where the text says STRING.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from limen.contracts.contract import Field
from limen.contracts.errors import InvalidArgument, Reason
from limen.contracts.tensors import Array, Kind

MAX_ELEMENTS: Final = 1_000_000


def classify(array: Array, count: int, field: Field) -> Array:
    """Return the `count` best classes of every row, best first, as text of shape [rows, min(count, classes)].

    Args:
        array: the output, [rows] or [rows, classes]; further axes count as classes in row-major order.
        count: how many classes, from 1.
        field: the output's field, for its labels.

    Raises:
        InvalidArgument: the element type has no order, or the tensor is over 1,000,000 elements.
    """
    if field.element.kind not in (Kind.INT, Kind.FLOAT) or (field.element.size == 2 and field.is_float):
        raise InvalidArgument.at(
            f"outputs.{field.wire_name}", f"classification is not supported for {field.datatype}", Reason.DTYPE
        )
    if array.size > MAX_ELEMENTS:
        raise InvalidArgument.at(
            f"outputs.{field.wire_name}", "has too many elements for classification", Reason.BATCH_LIMIT
        )
    rows = array.reshape(array.shape[0], -1)
    best = np.argsort(-rows if rows.dtype.kind == "f" else -rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    labels = field.labels or (field.enum if field.enum is not None else ())
    out = np.empty(best.shape, object)
    for (i, k), index in np.ndenumerate(best):
        text = f"{float(rows[i, index]):.6f}:{index}"
        out[i, k] = f"{text}:{labels[index]}" if index < len(labels) and labels[index] != "" else text
    return out
