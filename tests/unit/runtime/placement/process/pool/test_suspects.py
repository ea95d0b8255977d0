"""Fingerprints and quarantine."""

import numpy as np

from limen.contracts.inference import InferenceRequest
from limen.runtime.placement.process.pool import suspects as module
from limen.runtime.placement.process.pool.suspects import Suspects, fingerprint


def request(*values, **parameters):
    return InferenceRequest("m", {"x": np.array(values, np.float32)}, "1", "id", parameters, rows=len(values))


def test_the_same_tensors_and_parameters_have_the_same_fingerprint_whoever_sends_them():
    one = request(1, 2, p=1)
    other = InferenceRequest("m", {"x": np.array([1, 9, 2, 9], np.float32)[::2]}, "", "other", {"p": 1}, rows=2)
    assert fingerprint(one) == fingerprint(other)
    assert len(fingerprint(one)) == 32


def test_anything_else_has_another():
    texts = [InferenceRequest("m", {"x": np.array(v, object)}) for v in (["ab", ""], ["a", "b"], [b"ab", None], ["ab"])]
    different = [request(1, 2), request(1, 3), request(1, 2, p=1), request(1, 2, p=True), request(1), *texts]
    assert len({fingerprint(r) for r in different}) == len(different)


def test_a_request_is_quarantined_when_it_was_alone_at_its_second_crash():
    told = []
    suspects = Suspects(told.append)
    batch = [request(n) for n in range(4)]
    assert not suspects.crashed(batch, was_alone=False)
    assert not suspects.crashed(batch, was_alone=False)
    assert suspects.quarantined == set()
    assert suspects.crashed(batch[:1], was_alone=True)
    assert told == [fingerprint(batch[0])]
    assert [suspects.judge(r) is not None for r in batch] == [True, False, False, False]


def test_a_suspect_that_was_answered_starts_again():
    suspects = Suspects(lambda mark: None)
    assert not suspects.crashed([request(1)], was_alone=True)
    suspects.cleared(request(1))
    assert not suspects.crashed([request(1)], was_alone=True)
    assert suspects.crashed([request(1)], was_alone=True)


def test_suspects_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(module, "MAX_SUSPECTS", 3)
    suspects = Suspects(lambda mark: None)
    for n in range(10):
        suspects.crashed([request(n)], was_alone=False)
    assert len(suspects._crashes) == 3
