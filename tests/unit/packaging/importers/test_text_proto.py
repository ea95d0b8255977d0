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


@pytest.mark.parametrize("word", ["true", "True", "t"])
def test_truth_is_spelled_in_three_ways(word):
    assert read(f"a: {word}") == {"a": [True]}
    assert read(f"a: {({'true': 'false', 'True': 'False', 't': 'f'})[word]}") == {"a": [False]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("017", 15),
        ("-0x1f", -31),
        ("0", 0),
        ("-\t3", -3),
        ("3.", 3.0),
        (".5", 0.5),
        ("10f", 10.0),
        ("-1.5E-3F", -0.0015),
        ("0.0", 0.0),
    ],
)
def test_numbers_are_written_as_in_c(text, value):
    (found,) = read(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\303\251", "é"),
        (r"\xc3\xA9", "é"),
        (r"\u00e9 \U0001F600", "é 😀"),
        (r"\a\?\'\"", "\a?'\""),
        ("grüße", "grüße"),
        (r"\xe2\x82" + '"\n' + r"'\xac'" + ' "', "€"),
    ],
)
def test_escapes_are_bytes_of_utf_8(text, value):
    assert read(f'a: "{text}"') == {"a": [value]}


@pytest.mark.parametrize("text", [r"\q", r"\xff", r"\ud800", r"\U00110000", r"\303"])
def test_an_escape_that_is_no_text_is_refused(text):
    assert refusal(f'\na: "{text}"').startswith("config.pbtxt, line 2: ")


def test_a_byte_order_mark_is_not_a_part_of_the_text():
    assert read("\ufeffa: 1") == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 09", "config.pbtxt, line 1: a number that begins with 0 is octal"),
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
