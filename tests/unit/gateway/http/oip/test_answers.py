"""What an OIP answer says beside its tensors."""

import json

import numpy as np
import pytest

from limen.contracts.inference import InferenceResponse, RequestedOutput
from limen.gateway.http.oip.answers import encode_json, encode_mixed

Y = np.array([0.5], np.float32)


def response(*, request_id: str = "", **parameters: str) -> InferenceResponse:
    return InferenceResponse("m", "1", {"y": Y}, request_id, parameters)


@pytest.mark.parametrize("request_id", ["", "r-1"], ids=["without id", "with id"])
@pytest.mark.parametrize("form", ["json", "binary", "mixed"])
def test_the_parameters_of_an_answer_are_told_in_every_form(form, request_id):
    """A fallback that answers says so (`limen_fallback`), as it does over gRPC."""
    given = response(request_id=request_id, limen_fallback="constant")
    if form == "json":
        body, length = encode_json(given), None
    else:
        answer = encode_mixed(given, () if form == "binary" else (RequestedOutput("y"),), binary=form == "binary")
        body = answer.body
        length = int(answer.head.split()[1]) if answer.head else None
    said = json.loads(body[:length])
    assert (said["parameters"], said.get("id", "")) == ({"limen_fallback": "constant"}, request_id)
    assert said["outputs"][0]["name"] == "y"


def test_an_answer_without_parameters_says_nothing_of_them():
    assert b'"parameters"' not in encode_json(response())
