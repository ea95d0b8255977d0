"""The typed `.proto` of a model compiles, keeps its numbers and survives whatever a contract says."""

import re
from pathlib import Path

import msgspec
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidPackage
from limen.contracts.openapi.examples import example_record
from limen.contracts.proto.descriptor import file_descriptor
from limen.contracts.proto.schema import field_numbers, proto_file, proto_package, service_name
from limen.contracts.proto.text import proto_text
from tests.unit.contracts.served import ALL, CREDIT, DIGITS, EVERYTHING, TELLER

KEYWORDS = re.findall(
    r"\w+",
    "message optional repeated reserved oneof map syntax package import service rpc returns stream option enum to max "
    "extensions extend group true inf nan string int32 float class def from None lambda DESCRIPTOR Clear a_b aB x_1 tail_",
)


def compiled(text: str, folder: Path) -> descriptor_pb2.FileDescriptorProto:
    """Compile a proto text with protoc and return its description."""
    source, target = folder / "model.proto", folder / "model.pb"
    source.write_text(text, "utf-8")
    assert protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={target}", str(source)]) == 0
    return descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file[0]


def messages(text: str, folder: Path):
    """Return a function that gives the message classes of a proto text by name."""
    file = compiled(text, folder)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))


def numbers(text: str, folder: Path, message: str = "Instance") -> dict[str, int]:
    """Return the field numbers of a message of a proto text."""
    found = next(m for m in compiled(text, folder).message_type if m.name == message)
    return {field.name: field.number for field in found.field}


@pytest.mark.parametrize("contract", [s.contract for s in ALL], ids=lambda c: c.name)
def test_the_text_compiles_and_is_the_same_every_time(contract, tmp_path):
    text = proto_text(contract)
    assert text == proto_text(contract)
    file = compiled(text, tmp_path)
    methods = {m.name: m.server_streaming for m in file.service[0].method}
    assert methods == {"Predict": False, "PredictStream": True}
    assert {m.name for m in file.message_type} >= {"PredictRequest", "PredictResponse", "Instance", "Prediction"}


def odd() -> Contract:
    """Return a contract of names that are hard to place, with numbers of its own and axes that vary."""
    fields = tuple(Field(name=name, type="string", number=n) for n, name in enumerate(KEYWORDS, 100))
    loose = Field(name="grid", type="float32", shape=(-1, -1))
    return Contract(name="parameter", major=3, inputs=(*fields, loose), outputs=(loose, *fields[::-1]))


@pytest.mark.parametrize("contract", [*(s.contract for s in ALL), TELLER, odd()], ids=lambda c: c.name)
def test_the_descriptor_is_what_protoc_makes_of_the_text(contract, tmp_path):
    """Reflection, the calls themselves and the file that callers download are one thing."""
    text, described = compiled(proto_text(contract), tmp_path), file_descriptor(contract)
    assert described.name == proto_file(contract).path
    described.name = text.name
    assert described == text


def test_an_endpoint_gives_its_own_name_and_the_contract_its_major():
    second = msgspec.structs.replace(CREDIT, major=2)
    assert "package limen.models.credit.v2;" in proto_text(second)
    assert (
        proto_file(second, "credit.v2").full_service
        == proto_file(second).full_service
        == "limen.models.credit.v2.Credit"
    )
    assert proto_file(CREDIT, "lending-eu").full_service == "limen.models.lending_eu.v1.LendingEu"
    assert proto_file(CREDIT, "lending-eu").path == "limen/models/lending_eu/v1/lending_eu.proto"


def test_messages_carry_a_record_and_come_back_unchanged(tmp_path):
    message = messages(proto_text(CREDIT), tmp_path)
    request = message("PredictRequest")(id="r-1")
    row = request.instances.add(loan_amount=1000, term_months=36, grade="A")
    assert row.HasField("loan_amount")
    assert not row.HasField("employment_years")
    assert message("PredictRequest").FromString(request.SerializeToString()) == request


def test_a_required_zero_differs_from_a_value_that_was_forgotten(tmp_path):
    """B23: a missing input must never be read as zero."""
    instance = messages(proto_text(EVERYTHING), tmp_path)("Instance")
    assert instance(tiny=0).HasField("tiny")
    assert not instance().HasField("tiny")


def test_the_json_form_of_a_message_is_the_record_api(tmp_path):
    request = messages(proto_text(CREDIT), tmp_path)("PredictRequest")
    record = example_record(CREDIT)
    parsed = json_format.ParseDict({"instances": [record]}, request())
    assert json_format.MessageToDict(parsed)["instances"][0] == record


def test_numbers_stay_when_a_field_is_appended(tmp_path):
    longer = Contract(name="credit", inputs=(*CREDIT.inputs, Field(name="new", type="bool")), outputs=CREDIT.outputs)
    before, after = numbers(proto_text(CREDIT), tmp_path), numbers(proto_text(longer), tmp_path)
    assert after == before | {"new": 7}


def test_numbers_that_the_contract_gives_are_kept_when_fields_move(tmp_path):
    fields = (Field(name="b", type="bool", number=5), Field(name="a", type="bool", number=9))
    contract = Contract(name="m", inputs=fields, outputs=(Field(name="y", type="bool"),))
    moved = Contract(name="m", inputs=fields[::-1], outputs=contract.outputs)
    assert numbers(proto_text(contract), tmp_path) == numbers(proto_text(moved), tmp_path) == {"a": 9, "b": 5}


@pytest.mark.parametrize("number", [0, -1, 19_000, 19_999, 536_870_912])
def test_a_number_that_protobuf_does_not_allow_is_named(number):
    with pytest.raises(InvalidPackage, match=r"^inputs\.a\.number: must be 1 to 536870911"):
        field_numbers([Field(name="a", type="bool", number=number)], "inputs")


def test_two_fields_with_one_number_are_named():
    fields = [Field(name="a", type="bool", number=2), Field(name="b", type="bool")]
    with pytest.raises(InvalidPackage, match=r"^inputs\.b\.number: is already the number of a$"):
        field_numbers(fields, "inputs")


def test_names_that_are_keywords_of_protobuf_or_python_work(tmp_path):
    fields = tuple(Field(name=name, type="string") for name in KEYWORDS)
    text = proto_text(Contract(name="message", inputs=fields, outputs=fields))
    instance = messages(text, tmp_path)("Instance")
    filled = json_format.ParseDict(dict.fromkeys(KEYWORDS, "x"), instance())
    assert instance.FromString(filled.SerializeToString()) == filled
    assert json_format.MessageToDict(filled) == dict.fromkeys(KEYWORDS, "x")


@pytest.mark.parametrize(
    "name", ["instance", "prediction", "predict-request", "predict.response", "float-tensor", "1st.x", "a_-.b"]
)
def test_any_model_name_gives_a_service_that_compiles(name, tmp_path):
    fields = (Field(name="grid", type="float32", shape=(-1, -1)),)
    file = compiled(proto_text(Contract(name=name, inputs=fields, outputs=fields)), tmp_path)
    assert file.service[0].name == service_name(name)
    assert file.package == proto_package(name)


def test_the_package_carries_the_name_and_the_major_version():
    assert proto_package("digits-2.net", 3) == "limen.models.digits_2_net.v3"
    assert proto_package("7seas") == "limen.models.m_7seas.v1"
    assert service_name("credit-default_eu") == "CreditDefaultEu"


def test_b100_nothing_in_a_text_can_leave_its_comment(tmp_path):
    evil = 'a\nmessage Evil {}\r/* \u2028message Evil {}\x0bmessage Evil {} \x85message Evil {} */ "\\\0\x1b['
    contract = Contract(
        name="m",
        title=evil,
        description=evil,
        owner=evil,
        licence=evil,
        inputs=(Field(name="x", type="string", title=evil, description=evil, unit=evil, pattern=evil, default=evil),),
        outputs=(Field(name="y", type="string", enum=(evil,)),),
    )
    file = compiled(proto_text(contract), tmp_path)
    assert "Evil" not in {m.name for m in file.message_type}
    code = re.sub(r"^\s*//.*$", "", proto_text(contract), flags=re.MULTILINE)
    assert "Evil" not in code
    assert proto_text(contract).replace("\n", "").isprintable()


def test_shapes_are_repeated_and_two_variable_axes_carry_their_shape(tmp_path):
    fields = (
        Field(name="vector", type="float64", shape=(3,)),
        Field(name="matrix", type="int8", shape=(-1, 4)),
        Field(name="image", type="uint16", shape=(-1, -1)),
    )
    text = proto_text(Contract(name="m", inputs=fields, outputs=fields[:1]))
    instance = messages(text, tmp_path)("Instance")
    row = instance(vector=[1, 2, 3], matrix=[1, 2, 3, 4])
    row.image.shape.extend([1, 2])
    row.image.values.extend([7, 8])
    assert instance.FromString(row.SerializeToString()) == row
    assert "Shape [any, 4], flattened row-major." in text


def test_comments_tell_units_limits_and_what_an_absent_value_means():
    text = proto_text(CREDIT)
    assert "// Unit: USD. At least 500, at most 40000. Required." in text
    assert '// At most 40 long. Absent means "other".' in text
    assert "Absent means missing." in text
    assert "100 ms apply when you send none" in text


def test_no_secret_is_in_the_text():
    assert "hush" not in proto_text(EVERYTHING)
    assert "hidden" not in proto_text(EVERYTHING)
    assert "repeated float pixels = 1;" in proto_text(DIGITS)
