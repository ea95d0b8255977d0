"""grpcurl calls the credit model's own service with named fields, and knows it from reflection alone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import BIN, Peer
from tests.services.process import serving

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]
CREDIT = "limen.models.credit.v1.Credit"


@pytest.fixture(scope="module")
def credit(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """Train the credit model of the examples."""
    folder = tmp_path_factory.mktemp("credit") / "credit"
    train = [sys.executable, str(repository / "examples" / "credit" / "train.py"), str(folder)]
    done = subprocess.run(train, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=["native", "grpcio"])
def bank(request: pytest.FixtureRequest, credit: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A server of the credit model on each gRPC engine."""
    if not BIN.is_dir():
        pytest.skip("run `make interop` first")
    folder = tmp_path_factory.mktemp("bank")
    options = ("--grpc-engine", request.param, "--home", folder / "home")
    with serving(credit, *options, announcement=folder / "a.json") as server:
        yield Peer(server, request.param)


def test_the_service_is_listed_and_described_with_the_words_of_the_contract(bank: Peer):
    assert CREDIT in bank.run("grpcurl", "-plaintext", bank.server.grpc, "list").split()
    service = bank.run("grpcurl", "-plaintext", bank.server.grpc, "describe", CREDIT)
    assert (
        "rpc Predict ( .limen.models.credit.v1.PredictRequest ) returns ( .limen.models.credit.v1.PredictResponse );"
        in service
    )
    assert "rpc PredictStream ( .limen.models.credit.v1.PredictRequest )" in service
    instance = bank.run("grpcurl", "-plaintext", bank.server.grpc, "describe", "limen.models.credit.v1.Instance")
    assert "optional float loan_amount = 1" in instance
    assert "// Unit: USD." in instance


def test_named_fields_are_answered_as_the_record_api_answers_them(bank: Peer, credit: Path):
    record = json.loads((credit / "examples.json").read_text())[0]["inputs"]
    body = json.dumps({"instances": [record, record], "id": "loan-1"})
    answer = json.loads(bank.run("grpcurl", "-plaintext", "-d", body, bank.server.grpc, f"{CREDIT}/Predict"))
    expected = bank.server.http.post("/v1/models/credit:predict", json={"instances": [record]}).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("credit", "1", "loan-1")
    for row in answer["predictions"]:
        for name, value in expected["predictions"][0].items():
            assert row[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)
    (part,) = json.loads(
        f"[{bank.run('grpcurl', '-plaintext', '-d', body, bank.server.grpc, f'{CREDIT}/PredictStream')}]"
    )
    assert part == answer


def test_a_mistake_is_shown_with_its_path(bank: Peer):
    command = [str(BIN / "grpcurl"), "-plaintext", "-d", '{"instances": [{}]}', bank.server.grpc, f"{CREDIT}/Predict"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "Code: InvalidArgument" in done.stderr
    assert "Message: instances[0].loan_amount: is required; instances[0].term: is required" in done.stderr


def test_health_knows_the_service(bank: Peer):
    answer = bank.run(
        "grpcurl", "-plaintext", "-d", json.dumps({"service": CREDIT}), bank.server.grpc, "grpc.health.v1.Health/Check"
    )
    assert json.loads(answer) == {"status": "SERVING"}
