"""JSON Schemas of records say what the record codec does."""

import base64

import ml_dtypes
import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidArgument
from limen.contracts.openapi.jsonschema import (
    field_schema,
    input_record,
    output_record,
    prose,
    record_schemas,
    value_schema,
)
from limen.contracts.validation.records import RecordCodec
from tests.unit.contracts.served import ALL, CREDIT, EVERYTHING

EXTRA = (
    Field(name="open", type="string", nullable=True),
    Field(name="some", type="uint8", shape=(-1,), maximum=9.5),
    Field(name="half", type="float16", minimum=-1),
    Field(name="pick", type="string", enum=("A", "car"), nullable=True),
    Field(name="file", type="bytes", max_length=5),
)
SINGLE = Field(name="single", type="float32")
# The edge of bfloat16 is where NumPy's own overflow checks end, so it has a test of its own.
FIELDS = [f for served in ALL for f in served.contract.inputs if f.type != "bfloat16"] + list(EXTRA)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-300, 300)
    | st.integers(-(1 << 65), 1 << 65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.125, 0.2, 500, 40000, 40001, 65519.9, 65520, 3.39e38, 3.397e38])
    | st.sampled_from([3.4028234663852886e38, 3.4028235677973366e38, -3.4028235677973362e38, 1e39])
    | st.sampled_from(["", "A", "G", "H", "AB123", "AB1234", "AB123456", "aa1234", "car"])
    | st.text(max_size=45)
    | st.binary(max_size=7).map(lambda b: base64.b64encode(b).decode()),
    lambda inner: st.lists(inner, min_size=1, max_size=3),
    max_leaves=6,
)


def has_whole_float(value):
    """Say whether JSON Schema calls a float in there an integer, which is a matter of taste."""
    if isinstance(value, list):
        return any(map(has_whole_float, value))
    return isinstance(value, float) and value.is_integer()


@given(st.sampled_from(FIELDS), values)
@example(EXTRA[1], [1, 9])
@example(EXTRA[1], [10])
@example(EXTRA[3], None)
@example(EXTRA[2], 65519.99)
@example(EXTRA[2], 65520.0)
@example(SINGLE, 3.4028235677973362e38)
@example(SINGLE, 3.4028235677973366e38)
def test_the_schema_of_a_field_accepts_exactly_what_the_record_codec_accepts(field, value):
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    if has_whole_float(value) and value_schema(field).get("format", "").startswith(("int", "uint")):
        return
    contract = Contract(name="m", inputs=(field, Field(name="other_", type="bool", default=True)), outputs=())
    record = {field.name: value}
    valid = jsonschema_rs.validator_for(input_record(contract)).is_valid(record)
    try:
        RecordCodec(contract).decode(msgspec.json.encode({"instances": [record]}))
    except InvalidArgument:
        accepted = False
    else:
        accepted = True
    assert valid == accepted


def test_a_field_shows_its_unit_sensitivity_bounds_and_text():
    assert field_schema(CREDIT.inputs[0]) == {
        "type": "number",
        "format": "float",
        "minimum": 500,
        "maximum": 40000,
        "description": "Amount asked for. Unit: USD.",
        "x-unit": "USD",
        "x-sensitivity": "internal",
    }


def test_narrow_floats_end_before_the_first_value_that_rounds_to_infinity():
    schema = value_schema(Field(name="a", type="bfloat16", maximum=0))
    assert schema == {"type": "number", "format": "bfloat16", "exclusiveMinimum": -3.396177427818412e38, "maximum": 0}
    assert value_schema(Field(name="a", type="float64")) == {"type": "number", "format": "double"}
    with np.errstate(over="ignore"):
        assert np.isinf(np.array([3.396177427818412e38]).astype(ml_dtypes.bfloat16)).all()
        assert np.isfinite(np.array([3.3961774278184116e38]).astype(ml_dtypes.bfloat16)).all()


def test_integers_carry_the_range_of_their_type_where_the_contract_is_wider():
    assert value_schema(Field(name="a", type="int8", minimum=-5.5)) == {
        "type": "integer",
        "format": "int8",
        "minimum": -5,
        "maximum": 127,
    }


def test_shapes_become_arrays_and_a_variable_axis_has_no_length():
    schema = value_schema(Field(name="a", type="bool", shape=(2, -1)))
    assert schema == {
        "type": "array",
        "items": {"type": "array", "items": {"type": "boolean"}},
        "minItems": 2,
        "maxItems": 2,
    }


def test_a_nullable_enum_has_null_in_both_the_type_and_the_list():
    assert value_schema(EXTRA[3]) == {"type": ["string", "null"], "enum": ["A", "car", "", None]}


def test_bytes_are_base64_text():
    schema = value_schema(Field(name="a", type="bytes"))
    assert schema["contentEncoding"] == "base64"


def test_an_output_that_need_not_be_finite_may_be_null():
    scores = output_record(ALL[1].contract)["properties"]["scores"]
    assert scores["items"]["type"] == ["number", "null"]
    assert scores["description"] == "One value for each of: zero, one, two."


def test_records_that_are_sent_allow_no_other_fields_and_require_what_has_no_default():
    schema = input_record(CREDIT)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["loan_amount", "term_months", "grade"]
    assert output_record(CREDIT)["required"] == ["default_probability", "decision"]


def test_an_answer_may_have_more_outputs_than_its_schema_names():
    assert "additionalProperties" not in output_record(CREDIT)


def test_a_secret_field_shows_neither_examples_nor_its_default():
    schema = input_record(EVERYTHING)["properties"]["token"]
    assert schema == {"type": "string", "x-sensitivity": "secret"}


def test_default_and_examples_are_shown_otherwise():
    schema = input_record(CREDIT)["properties"]["purpose"]
    assert (schema["default"], schema["examples"]) == ("other", ["car", "house"])


def test_markup_in_a_text_is_inert_and_a_comparison_stays_readable():
    assert prose("a < b <script>x</script> <!-- --> 3<4") == "a < b &lt;script>x&lt;/script> &lt;!-- --> 3<4"


def test_the_stand_alone_schema_is_a_valid_schema():
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    for served in ALL:
        assert jsonschema_rs.meta.is_valid(record_schemas(served.contract))
