"""Triton's and KServe's clients talk to the real server unchanged: each `check_…` of the programs in `clients/` is one test."""

import re

import pytest

from tests.interop.conftest import CLIENTS, Peer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]
CHECKS = [
    (program.stem, check)
    for program in sorted(CLIENTS.glob("*.py"))
    for check in re.findall(r"^(?:async )?def (check_\w+)", program.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize(("client", "check"), CHECKS, ids=[f"{c}-{n.removeprefix('check_')}" for c, n in CHECKS])
def test_a_client_nobody_here_wrote(peer: Peer, client: str, check: str):
    problem = peer.results(client)[check]
    assert not problem, problem
