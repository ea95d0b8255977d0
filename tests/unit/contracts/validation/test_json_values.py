"""Fields of type json: any value in a record, text in a tensor, and the same answer by every way in."""

import numpy as np
import orjson
import pytest

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidArgument, InvalidOutput, InvalidPackage
from limen.contracts.openapi.examples import example_record
from limen.contracts.openapi.jsonschema import record_schemas
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.packaging.manifest.decoder import decode_manifest

VALUES = [{"a": [1, {"b": None}]}, [], [1, [2]], "text", "", 0.5, -3, True, {"ü": "🦉"}]


def contract(**limits: object) -> Contract:
    field = Field(name="x", type="json", **limits)  # type: ignore[arg-type]
    return Contract(name="m", inputs=(field,), outputs=(field,))


def decoded(of: Contract, *rows: object) -> np.ndarray:
    return RecordCodec(of).decode(orjson.dumps({"instances": rows})).inputs["x"]


@pytest.mark.parametrize("value", VALUES)
def test_any_value_of_a_record_is_text_in_a_tensor_and_itself_again_in_the_answer(value):
    array = decoded(contract(), {"x": value})
    assert array.dtype == object
    assert orjson.loads(array[0]) == value
    check = ContractCheck(contract())
    assert check.check_inputs({"x": array}) == 1
    assert RecordCodec(contract()).encode(check.check_outputs({"x": array}, 1)) == [{"x": value}]


def test_a_list_of_a_shape_holds_any_values():
    nested = contract(shape=(2,))
    array = decoded(nested, {"x": [{"a": 1}, []]}, {"x": ["b", 2]})
    assert array.tolist() == [['{"a":1}', "[]"], ['"b"', "2"]]
    assert RecordCodec(nested).encode({"x": array}) == [{"x": [{"a": 1}, []]}, {"x": ["b", 2]}]
    with pytest.raises(InvalidArgument, match="2 values"):
        decoded(nested, {"x": [1]})


def test_an_empty_text_is_a_value_in_a_record_and_missing_in_a_tensor_which_has_no_null():
    maybe = contract(nullable=True)
    for of in (maybe, contract()):
        assert decoded(of, {"x": ""}).tolist() == ['""']
    assert RecordCodec(maybe).tensors([{"x": ""}])["x"].tolist() == ['""']
    inputs = {"x": np.array([""], object)}
    ContractCheck(maybe).check_inputs(inputs)
    assert inputs["x"].tolist() == [None]


def test_null_is_missing():
    for body in ({"x": None}, {}):
        with pytest.raises(InvalidArgument, match=r"null|required"):
            decoded(contract(), body)
        assert decoded(contract(nullable=True), body).tolist() == [None]
    assert decoded(contract(default={"a": []}), {}).tolist() == ['{"a":[]}']
    with pytest.raises(InvalidArgument, match="must not be null"):
        ContractCheck(contract()).check_inputs({"x": np.array(["null"], object)})


@pytest.mark.parametrize(
    "text", ["", "{", "{'a': 1}", "NaN", '{"a": 1, "a": 2}', "[" * 200 + "]" * 200, "[1,]", "\ud800"]
)
def test_text_of_a_tensor_that_is_not_strict_json_is_refused(text):
    check = ContractCheck(contract())
    with pytest.raises(InvalidArgument, match=r"x\[0\]: must be JSON text"):
        check.check_inputs({"x": np.array([text], object)})
    with pytest.raises(InvalidOutput, match=r"x\[0\]: must be JSON text"):
        check.check_outputs({"x": np.array([text], object)}, 1)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"x": {"a": 1, "a": 2}}]}',
        b'{"instances": [{"x": ' + b"[" * 200 + b"]" * 200 + b"}]}",
        b'{"instances": [{"x": {"a": 1e999}}]}',
        b'{"instances": [{"x": "\xff"}]}',
        b'{"instances": [{"x": yes}]}',
        b'{"instances": [{"x": {"a": NaN}}]}',
    ],
)
def test_a_record_is_strict_json_to_its_last_leaf(body):
    with pytest.raises(InvalidArgument):
        RecordCodec(contract()).decode(body)


def test_limits_of_text_are_no_limits_of_json():
    for key, value in (("enum", "[a]"), ("pattern", "a"), ("min_length", "1"), ("minimum", "1")):
        text = f"name: m\nbackend: onnx\nartifact: m.onnx\ninputs: [{{name: x, type: json, {key}: {value}}}]\n"
        with pytest.raises(InvalidPackage, match=f"{key}: is for"):
            decode_manifest(text + "outputs: [{name: y, type: float32}]\n")


def test_examples_and_schemas_show_the_value_itself():
    found = contract(examples=([{"a": 1}],))
    assert example_record(found) == {"x": [{"a": 1}]}
    assert example_record(contract()) == {"x": {}}
    assert example_record(contract(nullable=True)) == {"x": None}
    schema = record_schemas(contract(nullable=True))["$defs"]["Input"]["properties"]["x"]
    assert set(schema["type"]) == {"string", "number", "boolean", "object", "array", "null"}
