"""The header of a safetensors file is true of the file, or the file is refused (B93)."""

import json
import struct

import pytest

from limen.contracts.errors import InvalidPackage, Reason
from limen.packaging.formats.known import Format
from limen.packaging.formats.safetensors import BITS, Tensor, read_header
from limen.packaging.formats.sniff import examine, scan_folder
from limen.packaging.manifest.decoder import decode_manifest
from tests.services.broken_safetensors import BROKEN
from tests.services.hugging_face import header, weights

MANIFEST = decode_manifest(
    "name: m\nbackend: onnx\nartifact: m.onnx\ninputs: [{name: x, type: float32}]\noutputs: [{name: y, type: float32}]\n"
)


def test_a_true_header_gives_the_tensors():
    assert read_header(weights(a=3, none=0, b=1)) == {
        "a": Tensor("F32", (3,), (0, 12)),
        "none": Tensor("F32", (0,), (12, 12)),
        "b": Tensor("F32", (1,), (12, 16)),
    }


def test_padding_behind_the_header_and_any_order_of_names_are_the_formats_own():
    text = json.dumps(
        {
            "b": {"dtype": "I64", "shape": [], "data_offsets": [1, 9]},
            "a": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]},
        }
    )
    data = struct.pack("<Q", len(text) + 7) + text.encode() + b" " * 7 + bytes(9)
    assert list(read_header(data)) == ["b", "a"]


@pytest.mark.parametrize("dtype", BITS)
def test_every_type_is_as_wide_as_it_says(dtype):
    size = BITS[dtype]
    data = header({"w": {"dtype": dtype, "shape": [2, 4], "data_offsets": [0, size]}}) + bytes(size)
    assert read_header(data)["w"].dtype == dtype


def test_a_file_without_tensors_is_one():
    assert read_header(header({})) == {}


@pytest.mark.parametrize("name", BROKEN)
def test_b93_a_header_that_is_not_true_is_refused_with_the_reason(tmp_path, name):
    content, text = BROKEN[name]
    with pytest.raises(InvalidPackage) as caught:
        read_header(content)
    assert text in caught.value.message
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert (examine(path).format, examine(path).problem) == (Format.BROKEN_SAFETENSORS, caught.value.message)


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "no header"])
@pytest.mark.parametrize("file", ["model.safetensors", "weights.bin"])
def test_b93_no_package_may_hold_one_whatever_it_is_called(tmp_path, name, file):
    (tmp_path / file).write_bytes(BROKEN[name][0])
    with pytest.raises(InvalidPackage) as caught:
        scan_folder(tmp_path, MANIFEST)
    assert caught.value.reason is Reason.UNSAFE_FORMAT
    assert f"{file}: is a safetensors file that is not what its header says: " in caught.value.message


@pytest.mark.parametrize("content", [b"words", bytes(100), b'{"a": 1}', b"GGUF\x03\0\0\0" + bytes(100)])
def test_b93_the_name_makes_a_promise_too(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert examine(path).format is Format.BROKEN_SAFETENSORS


@pytest.mark.parametrize("size", [1, 7, 8, 20, 40, len(weights(a=3)) - 1])
def test_b93_a_file_that_was_cut_off_is_refused(tmp_path, size):
    path = tmp_path / "model.safetensors"
    path.write_bytes(weights(a=3)[:size])
    assert examine(path).format is Format.BROKEN_SAFETENSORS
