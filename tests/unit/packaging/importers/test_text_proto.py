"""Protobuf's text format, as model configurations really use it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.errors import InvalidPackage
from limen.packaging.importers.text_proto import MAX_BYTES, MAX_DEPTH, Word, read_text_proto


def read(text: str) -> dict:
    return read_text_proto(text.encode(), "config.pbtxt")


def refusal(text: str) -> str:
    with pytest.raises(InvalidPackage) as caught:
        read(text)
    return caught.value.message


def test_a_configuration_is_read_in_both_ways_to_write_lists():
    text = """
    # A comment.
    name: "densenet_onnx"
    platform: 'onnxruntime_onnx'
    max_batch_size : 8
    input [
      {
        name: "data_0"
        data_type: TYPE_FP32
        format: FORMAT_NCHW
        dims: [ 3, 224, 224 ]
        reshape { shape: [ 1, 3, 224, 224 ] }
      }
    ]
    output { name: "fc6_1" dims: -1, dims: 1000; label_filename: "labels.txt" }
    dynamic_batching { }
    parameters: < key: "x" value: { string_value: "1" } >
    """
    assert read(text) == {
        "name": ["densenet_onnx"],
        "platform": ["onnxruntime_onnx"],
        "max_batch_size": [8],
        "input": [
            {
                "name": ["data_0"],
                "data_type": ["TYPE_FP32"],
                "format": ["FORMAT_NCHW"],
                "dims": [3, 224, 224],
                "reshape": [{"shape": [1, 3, 224, 224]}],
            }
        ],
        "output": [{"name": ["fc6_1"], "dims": [-1, 1000], "label_filename": ["labels.txt"]}],
        "dynamic_batching": [{}],
        "parameters": [{"key": ["x"], "value": [{"string_value": ["1"]}]}],
    }


def test_values_keep_their_kind():
    found = read("a: true b: false c: 1.5 d: -2 e: 0x1F f: 2.5f g: 1e3 h: WORD i: [] ")
    expected = {"a": [True], "b": [False], "c": [1.5], "d": [-2], "e": [31], "f": [2.5], "g": [1000.0], "h": ["WORD"]}
    assert found == expected | {"i": []}
    assert isinstance(found["h"][0], Word)


def test_texts_are_joined_and_their_escapes_understood():
    assert read(r"""a: "one" 'two' "\n\x41\101\"" """) == {"a": ['onetwo\nAA"']}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb 2", "config.pbtxt, line 2: a colon is expected after b"),
        ("a: {", "config.pbtxt, line 1: the text ends too early"),
        ("a: [1 2]", "config.pbtxt, line 1: a comma or ] is expected"),
        ("a: }", "config.pbtxt, line 1: a value is expected"),
        ("\n: 1", "config.pbtxt, line 2: a field's name is expected"),
        ('a: "open', "config.pbtxt, line 1: this character is not expected"),
        ("a: 1 }", "config.pbtxt, line 1: a field's name is expected"),
        ("a { " * (MAX_DEPTH + 2), f"config.pbtxt, line 1: messages are nested more than {MAX_DEPTH} levels deep"),
    ],
)
def test_a_mistake_is_named_with_its_line(text, message):
    assert refusal(text) == message


def test_what_is_too_large_or_no_text_is_refused():
    assert "larger than" in refusal("#" * (MAX_BYTES + 1))
    with pytest.raises(InvalidPackage, match="UTF-8"):
        read_text_proto(b"\xff\xfe", "config.pbtxt")


@given(st.text(alphabet="ab:{}[]<>,;\"'#\n\\ 01.-_"))
def test_any_text_is_read_or_refused(text):
    try:
        read(text)
    except InvalidPackage:
        return
