"""The tensors and the expected answers that all four of Triton's clients share; `kind` is one of their modules."""

import time

import numpy as np

ECHO = {
    "bool": np.array([[True, False]]),
    "int8": np.array([[-128, 127]], np.int8),
    "int16": np.array([[-32768, 32767]], np.int16),
    "int32": np.array([[-(1 << 31), (1 << 31) - 1]], np.int32),
    "int64": np.array([[-(1 << 63), (1 << 63) - 1]], np.int64),
    "uint8": np.array([[0, 255]], np.uint8),
    "uint16": np.array([[0, 65535]], np.uint16),
    "uint32": np.array([[0, (1 << 32) - 1]], np.uint32),
    "uint64": np.array([[0, (1 << 64) - 1]], np.uint64),
    "float16": np.array([[-1.5, 65504]], np.float16),
    "float32": np.array([[-1.5, 3.4e38]], np.float32),
    "float64": np.array([[-1.5, 1.7e308]], np.float64),
    "string": np.array([["", "grüße ✓"]], object),
    "bytes": np.array([[b"\x00\xff", b"x"]], object),
}
WIRE = {
    "bool": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
    "bytes": "BYTES",
}
ROWS = np.array([[1, 0, 0, 0], [0, 0, 0, 2]], np.float32)


def tensor(kind, name, array, datatype=None, **options):
    """Return an input of one of the clients."""
    made = kind.InferInput(name, list(array.shape), datatype or WIRE[name.removesuffix("_in")])
    made.set_data_from_numpy(array, **options)
    return made


def echo_inputs(kind, **options):
    """Return the inputs of every type."""
    return [tensor(kind, f"{name}_in", array, WIRE.get(name, name.upper()), **options) for name, array in ECHO.items()]


def expect_echo(result):
    """Check the outputs of every type."""
    for name, array in ECHO.items():
        got = result.as_numpy(f"{name}_out")
        if name == "string":
            assert [text.decode() for text in got[0]] == list(array[0]), (name, got)
        else:
            assert got.tolist() == array.tolist(), (name, got)
            assert name == "bytes" or got.dtype == array.dtype, (name, got.dtype)


def score_inputs(kind, amounts=(10, 20), ages=(4, 8), **options):
    """Return the inputs of the score."""
    amount, age = np.array(amounts, np.float32), np.array(ages, np.int32)
    return [tensor(kind, "amount", amount, "FP32", **options), tensor(kind, "age", age, "INT32", **options)]


def expect_score(result, scores=(6, 12)):
    """Check the answer of the score."""
    assert result.as_numpy("score").tolist() == list(scores)


def expect_classes(result):
    """Check the two best classes of `ROWS`."""
    found = [[text.decode().split(":") for text in row] for row in result.as_numpy("y")]
    assert [[(index, label) for _, index, label in row] for row in found] == [
        [("1", "versicolor"), ("0", "setosa")],
        [("2", "virginica"), ("0", "setosa")],
    ], found
    assert all(0 < float(value) < 1 and len(value.partition(".")[2]) == 6 for row in found for value, _, _ in row)


def expect_state(state, expected):
    """Wait until a version is as it should be: unloading takes its time."""
    until = time.monotonic() + 30
    while (found := state()) != expected:
        assert time.monotonic() < until, found
        time.sleep(0.05)
