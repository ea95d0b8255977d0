"""Large JSON bodies: what the quick reader takes, and what it leaves to the exact one."""

import json

import numpy as np
import pytest

from limen.gateway.http.oip.numbers import scan

VALUES = np.arange(12, dtype=np.float32)


def body(shape, data):
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": data}]}).encode()


@pytest.mark.parametrize(("shape", "lists"), [((12,), 1), ((3, 4), 4), ((12, 1), 13), ((2, 3, 2), 9)])
def test_nested_data_is_read_like_flat_data_and_its_lists_are_counted(shape, lists):
    outline, arrays, found = scan(body(shape, VALUES.reshape(shape).tolist()))
    assert outline == {"inputs": [{"name": "x", "datatype": "FP32", "shape": list(shape)}]}
    assert (arrays["x"].tolist(), found) == (VALUES.reshape(shape).tolist(), lists)
    assert scan(body(shape, VALUES.tolist()))[2] == 1


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2, 2], [[1, 2, 3], [4]]),
        ([2, 2], [[1, 2], 3, 4]),
        ([2, 2], [[1, 2]]),
        ([4], [[1, 2], [3, 4]]),
        ([], [1, 2]),
        ([0], []),
        ([2], [1, True]),
    ],
)
def test_data_that_contradicts_its_shape_is_left_to_the_exact_reader(shape, data):
    with pytest.raises((ValueError, TypeError)):
        scan(body(shape, data))
