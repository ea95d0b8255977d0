"""What must hold of every refusal, and after it (04-reliability §2.1)."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

from limen.contracts.names import REQUEST_ID
from tests.conformance.serving.gateway import Gateway
from tests.conformance.serving.wire import Answer

MARKER = "c4n4ry"
"""Sent as a value; it may never come back in an error."""
os.environ["LIMEN_TEST_CANARY"] = "env-c4n4ry"
_FORBIDDEN = re.compile(
    "|".join(
        [
            MARKER,
            "Traceback",
            r'File \\?"',
            r"\.py\b",
            "site-packages",
            r"Error\b.*:",
            r"0x[0-9a-f]{6,}",
            *map(
                re.escape, (str(Path.cwd()), str(Path.home()) + "/", socket.gethostname(), os.environ["PATH"], "/srv/")
            ),
        ]
    )
)
GOOD = {
    "inputs": [
        {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2]},
        {"name": "b", "shape": [1, 2], "datatype": "FP32", "data": [[0.25, -2]]},
    ]
}


def refused(answer: Answer, status: int | tuple[int, ...], *codes: str) -> dict[str, Any]:
    """Assert that an answer is a refusal in the form all errors have, and return its body."""
    allowed = (status,) if isinstance(status, int) else status
    assert answer.status in allowed, answer
    assert answer.headers["content-type"] == "application/json"
    text = answer.body.decode()
    assert _FORBIDDEN.search(text) is None, text
    assert len(text) < 8192, "a refusal does not repeat the request"
    body: dict[str, Any] = answer.json()
    assert set(body) == {"error", "code", "request_id", "details"}
    assert isinstance(body["error"], str)
    assert body["error"]
    assert re.fullmatch(r"[A-Z][A-Z_]*", body["code"]), body
    if codes:
        assert body["code"] in codes, body
    assert body["request_id"] == answer.headers["x-request-id"]
    assert REQUEST_ID.fullmatch(body["request_id"])
    for detail in body["details"]:
        assert set(detail) == {"path", "reason"}
        assert isinstance(detail["path"], str)
        assert detail["reason"]
    return body


def assert_right(gateway: Gateway) -> None:
    """Assert that the server is alive and that a good request gets the right numbers."""
    assert gateway.call("GET", "/v2/health/live").status == 200
    answer = gateway.call("POST", "/v2/models/pair/infer", GOOD)
    assert answer.status == 200, answer
    assert [(o["name"], o["shape"], o["data"]) for o in answer.json()["outputs"]] == [
        ("sum", [1, 2], [1.75, 0]),
        ("difference", [1, 2], [1.25, 4]),
    ]


def assert_logged(gateway: Gateway, body: dict[str, Any], status: int) -> None:
    """Assert that a refusal has exactly one line in the log, with its request id and code."""
    lines = [line for line in gateway.log() if line["request_id"] == body["request_id"]]
    assert [(line["status"], line["code"]) for line in lines] == [(status, body["code"])]
