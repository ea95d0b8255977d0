"""Every endpoint has a service of its own, on both engines: named fields in, named fields out, and the same answers as elsewhere."""

import asyncio
import random
from contextlib import AsyncExitStack

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from limen.contracts.identity import LOCAL
from limen.contracts.inference import InferenceRequest
from limen.contracts.proto.descriptor import file_descriptor
from limen.contracts.validation.records import RecordCodec
from limen.packaging.archive.package import open_package
from limen.telemetry.metrics import instruments as table
from limen.telemetry.metrics.totals import errors, read_folder
from tests.conformance.grpc.typed import TIMEOUT_S, typed_server, with_major
from tests.conformance.serving.gates import CLOSED, MADE, STEP
from tests.conformance.serving.models import flood, steps, teller
from tests.services.packages import write_code, write_countdown, write_echo, write_fields, write_score, write_slow

SCORE = "limen.models.score.v1.Score"
HARMLESS = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
FIELDS_ROW = {"grade": "A", "zip": "941xx"}


@pytest.fixture(params=["native", "grpcio"])
def engine(request) -> str:
    return request.param


@pytest.fixture
def gates() -> None:
    """Close what other tests have left open."""
    for gate in (STEP, MADE, CLOSED):
        while gate.acquire(blocking=False):
            pass


@pytest.fixture
async def serve(engine, tmp_path):
    """Return a function that serves packages made by these writers, and gives the server and a client."""
    async with AsyncExitStack() as stack:

        async def start(*writers):
            packages = [write(tmp_path / write.__name__.removeprefix("write_")) for write in writers]
            return await stack.enter_async_context(typed_server(engine, tmp_path, *packages))

        yield start


async def test_a_call_with_named_fields_is_answered_with_named_fields(serve):
    _, client = await serve(write_score)
    service = await client.service(SCORE)
    answer = await service.predict({"amount": 10, "age": 4}, {"amount": 0, "age": 0}, id="mine-1")
    assert answer == {
        "predictions": [{"score": 6.0}, {"score": 0.0}],
        "id": "mine-1",
        "model_name": "score",
        "model_version": "1",
        "fallback": "",
    }


async def test_reflection_shows_the_contract_itself(serve):
    server, client = await serve(write_score)
    file = (await client.service(SCORE)).file
    comments = [place.leading_comments for place in file.source_code_info.location]
    assert " Unit: USD. At least 0, at most 1000. Required.\n" in comments
    file.ClearField("source_code_info")
    assert file == file_descriptor(server.plane.directory.contract("score"), "score")
    for symbol in (f"{SCORE}.Predict", "limen.models.score.v1.Instance.amount", "limen.models.score.v1.PredictRequest"):
        (data,) = (await client.ask(file_containing_symbol=symbol)).file_descriptor_response.file_descriptor_proto
        assert FileDescriptorProto.FromString(data).name == file.name
    answer = await client.ask(file_by_filename=file.name)
    assert answer.file_descriptor_response.file_descriptor_proto
    for symbol in ("limen.models.score.v1.Nothing", "limen.models.nobody.v1.Nobody"):
        assert (await client.ask(file_containing_symbol=symbol)).error_response.error_code == 5


async def test_reflection_describes_what_errors_carry(serve):
    _, client = await serve()
    answer = await client.ask(file_containing_symbol="google.rpc.BadRequest")
    (data,) = answer.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(data).name == "google/rpc/error_details.proto"


async def test_services_come_and_go_with_their_models(serve, tmp_path):
    """Those that come later are looked up by name; those that go are unknown again, whichever engine answers."""
    server, client = await serve(write_score)
    await server.serve(write_score(tmp_path / "late", "late-one.v1"))
    assert await client.services() == ["limen.models.late_one.v1.LateOne", SCORE]
    late, score = await client.service("limen.models.late_one.v1.LateOne"), await client.service(SCORE)
    assert (await late.predict({"amount": 2, "age": 0}))["model_name"] == "late-one.v1"
    for name, service in (("late-one.v1", late), ("score", score)):
        await server.forget(name)
        assert (await service.refusal({"amount": 2, "age": 0})).code == grpc.StatusCode.UNIMPLEMENTED
    assert await client.services() == []
    await server.serve(tmp_path / "score")
    assert (await score.predict({"amount": 2, "age": 0}))["predictions"] == [{"score": 1.0}]


async def test_a_service_that_nobody_has_is_unimplemented(serve):
    _, client = await serve(write_score)
    score = await client.service(SCORE)
    for path in (
        "limen.models.score.v2.Score/Predict",
        "limen.models.score.v1.Score/Nothing",
        "limen.models.x/Predict",
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.channel.unary_unary(f"/{path}")(score.message({"amount": 1, "age": 1}), timeout=60)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_the_major_of_the_contract_is_in_the_name(serve, tmp_path):
    server, client = await serve()
    await server.serve(with_major(write_score(tmp_path / "two", "score"), 2), name="score.v2")
    await server.serve(write_score(tmp_path / "one", "score"))
    assert await client.services() == [SCORE, "limen.models.score.v2.Score"]
    second = await client.service("limen.models.score.v2.Score")
    assert (await second.predict({"amount": 2, "age": 0}))["predictions"] == [{"score": 1.0}]


async def test_two_endpoints_of_one_name_in_protobuf_leave_the_first_its_service(serve, tmp_path, caplog):
    server, client = await serve()
    await server.serve(write_score(tmp_path / "b", "a_b"))
    await server.serve(write_score(tmp_path / "a", "a-b"))
    service = await client.service("limen.models.a_b.v1.AB")
    assert (await service.predict({"amount": 2, "age": 0}))["model_name"] == "a-b"
    server.grpc.refresh()
    assert caplog.text.count("a_b has no typed service, because its name clashes with that of a-b") == 1


async def test_metadata_names_a_version_or_an_alias(serve, tmp_path):
    server, client = await serve()
    await server.serve(write_score(tmp_path / "one", "score"), write_score(tmp_path / "two", "score"))
    server.plane.set_routes("score", (), {"champion": "1"})
    service = await client.service(SCORE)
    row = {"amount": 2, "age": 0}
    for metadata, version in (((), "2"), ((("limen-version", "1"),), "1"), ((("limen-version", "champion"),), "1")):
        answer = await service.predict(row, metadata=metadata)
        assert (answer["model_name"], answer["model_version"]) == ("score", version)
    for asked, code in (("9", "NOT_FOUND"), ("nobody", "NOT_FOUND"), ("No Version", "INVALID_ARGUMENT")):
        assert (await service.refusal(row, metadata=(("limen-version", asked),))).code.name == code


async def test_after_a_fallback_the_answer_has_the_fields_of_the_version_that_answered(serve, tmp_path):
    server, client = await serve()
    manifest = """\
    inputs: [{name: amount, type: float32}, {name: age, type: int32}]
    outputs: [{name: risk, type: string}]
    fallback: {version: 1}
    """
    code = """\
    import numpy as np


    class Model:
        def predict(self, inputs):
            if 666.0 in inputs["amount"]:
                raise RuntimeError("broken")
            return {"risk": np.full(len(inputs["amount"]), "low", object)}
    """
    first = write_score(tmp_path / "one")
    await server.serve(first, write_code(tmp_path / "two" / "score", manifest, code))
    service = await client.service(SCORE)
    data = await service.predict_bytes(service.message({"amount": 666, "age": 4}), timeout=TIMEOUT_S)
    # What is read with the messages of version 1, whose only output is a number.
    await server.serve(first)
    answer = (await client.service(SCORE)).read(data)
    assert (answer["model_version"], answer["fallback"]) == ("1", "version")
    assert [row["score"] for row in answer["predictions"]] == [334.0]


@pytest.mark.parametrize(
    ("row", "path", "reason"),
    [
        ({"amount": 10}, "instances[1].age", "is required"),
        ({"amount": 777.25e3, "age": 1}, "instances[1].amount", "must be ≤ 1000"),
        ({"amount": "NaN", "age": 1}, "instances[1].amount", "must be a finite number"),
        ({"amount": 1, "age": 777}, "instances[1].age", "must be ≤ 130"),
    ],
)
async def test_a_mistake_is_named_by_its_path_and_never_by_its_value(serve, row, path, reason):
    """B23, B52."""
    _, client = await serve(write_score)
    refusal = await (await client.service(SCORE)).refusal({"amount": 1, "age": 1}, row, id="mine-2")
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = refusal.detail(error_details_pb2.BadRequest()).field_violations
    assert (violation.field, violation.description) == (path, reason)
    assert refusal.trailers["x-request-id"] == "mine-2"
    assert "777" not in refusal.text + str(refusal.status)


async def test_every_forgotten_field_is_named_at_once(serve):
    _, client = await serve(write_fields)
    refusal = await (await client.service("limen.models.fields.v1.Fields")).refusal({"grade": "A"}, {"zip": "941xx"})
    assert set(refusal.paths) == {"instances[0].zip", "instances[1].grade"}
    assert refusal.reason == "INPUT_SET"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"grade": "Z"}, "instances[0].grade"),
        ({"zip": "x"}, "instances[0].zip"),
        ({"note": "too long for it"}, "instances[0].note"),
        ({"flags": [True]}, "instances[0].flags"),
        ({"steps": [1, 1, 1, 300]}, "instances[0].steps"),
        ({"steps": [1, 1, 1, 4]}, "instances[0].steps[1][1]"),
        ({"choice": 2}, "instances[0].choice"),
    ],
)
async def test_the_rules_of_the_contract_hold(serve, change, path):
    _, client = await serve(write_fields)
    refusal = await (await client.service("limen.models.fields.v1.Fields")).refusal(FIELDS_ROW | change)
    assert (refusal.code.name, refusal.paths) == ("INVALID_ARGUMENT", [path])


async def test_no_rows_and_too_many_are_refused(serve):
    _, client = await serve(write_score)
    service = await client.service(SCORE)
    for rows in ([], [{"amount": 1, "age": 1}] * 65_537):
        refusal = await service.refusal(*rows)
        assert (refusal.code.name, refusal.paths, refusal.reason) == ("INVALID_ARGUMENT", ["instances"], "BATCH_LIMIT")


async def test_a_field_that_this_version_does_not_have_is_no_silent_loss(serve):
    _, client = await serve(write_score)
    service = await client.service(SCORE)
    good = service.message({"amount": 1, "age": 1})
    row = good[2:] + b"\x50\x01"  # number 10
    refusal = await service.refusal_of(good + b"\x0a" + bytes([len(row)]) + row)
    assert (refusal.paths, refusal.reason) == (["instances[1]"], "UNKNOWN_FIELD")
    assert (await service.refusal_of(good + b"\x7a\x00")).reason == "UNKNOWN_FIELD"


async def test_answers_are_those_of_the_record_api_and_of_tensors(serve):
    """The same rows give the same answers, whichever way they come."""
    server, client = await serve(write_fields)
    rows = [
        FIELDS_ROW | {"income": 3.5, "flags": [False, True], "photo": "AAE="},
        {"grade": "C", "zip": "123xx", "note": "x y", "steps": [1, -1, 0, 3], "choice": 1},
    ]
    records = [{k: [v[:2], v[2:]] if k == "steps" else v for k, v in row.items()} for row in rows]
    contract = server.plane.directory.contract("fields")
    tensors = RecordCodec(contract).tensors(records)
    with server.plane.enter(LOCAL, "fields", "", "", "typed") as visit:
        response = await visit.infer(InferenceRequest("fields", tensors))
    service = await client.service("limen.models.fields.v1.Fields")
    answer = await service.predict(*rows)
    expected = RecordCodec(contract).encode(response.outputs)
    for got, want in zip(answer["predictions"], expected, strict=True):
        assert int(got["rows"]) == want["rows"]
        assert (got["kind"], got["raw"]) == (want["kind"], want["raw"])
        assert got["loose"] == [1.0, "NaN", "Infinity"]


async def test_every_element_type_comes_back_as_it_went(serve):
    server, client = await serve(write_echo)
    contract = server.plane.directory.contract("echo")
    service = await client.service("limen.models.echo.v1.Echo")
    row = {}
    for field in contract.inputs:
        kind = field.element.kind.value
        row[field.name] = {
            "bool": [True, False],
            "int": [field.element.low, field.element.high],
            "float": [0.5, -2.0],
            "text": ["ä", ""],
            "binary": ["AP8=", ""],
        }[kind]
    for rows in ([row], [row, {}, row]):
        answer = (await service.predict(*rows))["predictions"]
        for sent, got in zip(rows, answer, strict=True):
            for name, values in sent.items():
                back = got[name.replace("_in", "_out")]
                assert [int(v) if isinstance(w, int) else v for v, w in zip(back, values, strict=True)] == values


async def test_values_a_type_cannot_hold_are_refused(serve):
    _, client = await serve(write_echo)
    service = await client.service("limen.models.echo.v1.Echo")
    for name, value in (("int8_in", 128), ("uint16_in", 65_536), ("float16_in", 65_536.0), ("int16_in", -32_769)):
        refusal = await service.refusal({}, {name: [0, value]})
        assert refusal.paths == [f"instances[1].{name}"], name
        assert f"must fit {name[:-3]}" in refusal.text


async def test_a_stream_gives_its_parts_and_then_ends(serve):
    _, client = await serve(write_countdown, write_score)
    countdown = await client.service("limen.models.countdown.v1.Countdown")
    parts = [part async for part in countdown.parts({"n": 3}, id="s-1")]
    assert [part["predictions"] for part in parts] == [[{"value": v}] for v in (3, 2, 1)]
    assert {(part["id"], part["model_version"]) for part in parts} == {("s-1", "1")}
    assert [part async for part in countdown.parts({"n": 0})] == []
    assert (await countdown.refusal({"n": 3})).code == grpc.StatusCode.UNIMPLEMENTED
    (only,) = [part async for part in (await client.service(SCORE)).parts({"amount": 2, "age": 0})]
    assert only["predictions"] == [{"score": 1.0}]


async def test_a_stream_that_breaks_gives_what_it_had_and_a_status(serve):
    _, client = await serve(write_countdown)
    countdown = await client.service("limen.models.countdown.v1.Countdown")
    parts = countdown.parts({"n": -1})
    assert (await anext(parts))["predictions"] == [{"value": -1}]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(parts)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value.details())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [part async for part in countdown.parts({"n": 2000})]
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_parameters_reach_the_model_and_time_is_limited(serve):
    _, client = await serve(teller)
    service = await client.service("limen.models.teller.v1.Teller")
    parameters = {"word_count": {"int64_param": 2}, "tone": {"string_param": "dry"}}
    parts = [part async for part in service.parts({"text_input": "a b c"}, parameters=parameters)]
    assert [part["predictions"][0]["text_output"] for part in parts] == ["a", "b"]
    assert parts[0]["predictions"][0]["said"] == "None True tone=dry word_count=2"
    refusal = await service.refusal({"text_input": "a"}, parameters={"triton_x": {"bool_param": True}})
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_cancelled_stream_frees_the_model(serve, gates):
    """B50: whoever leaves lets go of the version; it can be unloaded afterwards."""
    server, client = await serve(flood)
    service = await client.service("limen.models.flood.v1.Flood")
    call = service.stream_bytes(service.message({"size": 1}), timeout=60)
    assert service.read(await call.read())["predictions"] == [{"y": "x"}]
    call.cancel()
    assert await asyncio.to_thread(CLOSED.acquire, timeout=60)
    await asyncio.wait_for(server.forget("flood"), 60)


async def test_a_late_answer_is_deadline_exceeded(serve):
    """The parameter `timeout`, in microseconds, counts as the deadline of the call does."""
    _, client = await serve(write_slow)
    service = await client.service("limen.models.slow.v1.Slow")
    refusal = await service.refusal({"seconds": 0.5}, parameters={"timeout": {"int64_param": 50_000}})
    assert refusal.code == grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.predict_bytes(service.message({"seconds": 0.5}), timeout=0.05)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await service.predict({"seconds": 0}))["predictions"] == [{"seconds": 0.0}]


async def test_a_model_that_has_never_been_ready_is_unavailable_and_not_unknown(serve, tmp_path):
    """Its service is not known yet, but its name says whose it will be."""
    server, client = await serve(write_score)
    score = await client.service(SCORE)
    package = open_package(write_score(tmp_path / "new", "new-one"), tmp_path)
    server.versions.set_failed("new-one", "1", package, "it is broken")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.channel.unary_unary("/limen.models.new_one.v1.NewOne/Predict")(
            score.message({"amount": 1, "age": 1}), timeout=60
        )
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_late_stream_is_deadline_exceeded_and_lets_go_of_the_model(serve, gates):
    server, client = await serve(steps)
    service = await client.service("limen.models.steps.v1.Steps")
    call = service.stream_bytes(service.message({"n": 3}), timeout=0.3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [part async for part in call]
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert await asyncio.to_thread(MADE.acquire, timeout=60)
    STEP.release()
    assert await asyncio.to_thread(CLOSED.acquire, timeout=60)
    await asyncio.wait_for(server.forget("steps"), 60)


async def test_health_knows_the_typed_services(serve):
    server, client = await serve(write_score)
    check = client.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    assert (await check(health_pb2.HealthCheckRequest(service=SCORE))).status == 1
    await server.forget("score")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(health_pb2.HealthCheckRequest(service=SCORE))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_calls_are_counted_as_typed(serve, tmp_path):
    _, client = await serve(write_score)
    service = await client.service(SCORE)
    await service.predict({"amount": 1, "age": 1}, {"amount": 1, "age": 1})
    await service.refusal({"amount": 1})
    totals, answered, refused = read_folder(tmp_path), ("score", "1", "typed"), ("score", "", "typed")
    assert totals.histogram(table.REQUEST_SECONDS, answered).count == 1
    assert totals.number(table.ANSWERED_ROWS, answered) == 2
    assert errors(totals.numbers(table.REQUESTS, refused)) == {"INVALID_ARGUMENT": 1}


@pytest.mark.parametrize("seed", range(3))
async def test_b49_random_and_flipped_bytes_are_refused_and_never_unknown(serve, seed):
    """B47 and B49: what is no message is INVALID_ARGUMENT, whatever it is instead."""
    _, client = await serve(write_fields)
    service = await client.service("limen.models.fields.v1.Fields")
    good = service.message(FIELDS_ROW | {"income": 3.5, "flags": [True, False]}, FIELDS_ROW, id="ok-1")
    generator = random.Random(seed)
    for _ in range(150):
        flipped = bytearray(good)
        for _ in range(generator.randint(1, 3)):
            flipped[generator.randrange(len(flipped))] ^= 1 << generator.randrange(8)
        assert await service.outcome(bytes(flipped)) in HARMLESS
        assert await service.outcome(generator.randbytes(generator.randrange(1, 200))) in HARMLESS
    assert await service.outcome(good) == grpc.StatusCode.OK
