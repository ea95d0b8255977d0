"""Schemathesis reads /openapi.json and calls everything in it, with what the document allows and with what it forbids."""

from pathlib import Path

import pytest

from tests.interop.conftest import Peer
from tests.services.process import serving

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


def test_schemathesis_finds_no_failure(peer: Peer):
    """All checks, positive and negative data, links included.

    Left out are `echo`, because JSON cannot carry its 16-bit floats and no tool can make up a body that is right, and `slow`.
    """
    if peer.engine != "native":
        pytest.skip("the engine of gRPC has no part in it")
    url = f"http://{peer.server.announced['http']}/openapi.json"
    options = ("--checks", "all", "--mode", "all", "--max-examples", 40, "--seed", 1, "--no-shrink", "--no-color")
    told = peer.run("st", "run", url, *options, "--exclude-path-regex", "/models/(echo|slow)", "--request-timeout", 30)
    assert "No issues found" in told
    assert peer.server.http.get("/v2/health/ready").json() == {"ready": True, "live": True}
    assert peer.server.predict("score", amount=10, age=4) == {"score": 6.0}


def test_schemathesis_finds_no_failure_in_the_management_api(peer: Peer, tmp_path: Path):
    """Reading and changing, with what its document allows and forbids. Publishing is left out: no tool can make up a package."""
    if peer.engine != "native":
        pytest.skip("the engine of gRPC has no part in it")
    checks = ("--checks", "all", "--exclude-checks", "positive_data_acceptance", "--mode", "all", "--max-examples", 30)
    # A limit of one millisecond would be answered with 504, and rightly.
    options = (
        *checks,
        "--seed",
        1,
        "--no-shrink",
        "--no-color",
        "--request-timeout",
        30,
        "-H",
        "X-Request-Timeout-Ms: 60000",
    )
    with serving("--home", tmp_path / "home", "--admin-port", "0", announcement=tmp_path / "ready.json") as server:
        url = f"http://{server.announced['admin']}/api/v1/openapi.json"
        told = peer.run("st", "run", url, *options, "--exclude-operation-id", "publish")
    # What is no failure is a warning: most names that it makes up do not exist.
    assert " passed" in told
    assert "Failures:" not in told
    assert "Errors:" not in told
