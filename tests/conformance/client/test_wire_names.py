"""Records go by fields over every transport, also where tensors have other names or no batch axis; arrays are tensors as they are."""

import numpy as np
import pytest

from limen.contracts.errors import InvalidArgument
from tests.conformance.client.conftest import Door


def test_a_record_names_fields_and_gets_fields(door: Door):
    answer = door.predict("foreign", {"numbers": [1, 2], "word": "a", "right": 5})
    assert answer.outputs == {"scores": [2, 4], "said": "a 1 5", "plain": 1}


def test_many_records_are_the_same_as_tensors(door: Door):
    answer = door.predict("foreign", [{"numbers": [n % 50, 1]} for n in range(300)])
    assert [row["scores"][0] for row in answer.as_records()] == [n % 50 * 2 for n in range(300)]
    assert set(answer.as_arrays()) == {"scores", "said", "plain"}


def test_a_data_frame_has_columns_named_like_fields(door: Door):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"numbers": [[1, 2], [3, 4]], "word": ["a", "b"]}, index=[7, 9])
    found = door.predict("foreign", frame, outputs=["said"]).as_frame()
    assert found.to_dict() == {"said": {7: "a 1 2", 9: "b 1 2"}}


def test_arrays_are_tensors_by_their_own_names(door: Door):
    found = door.predict("foreign", {"input.1": np.array([[1, 2]], np.float32)}, outputs=["Softmax Out"]).outputs
    assert {name: array.tolist() for name, array in found.items()} == {"Softmax Out": [[2, 4]]}
    with pytest.raises(InvalidArgument):
        door.predict("foreign", {"numbers": np.array([[1, 2]], np.float32)})


def test_a_record_of_a_model_without_a_batch_axis_is_one_run(door: Door):
    answer = door.predict("whole", {"table": [[1, 2], [3, 4], [5, 6]], "scale": 2, "title": ["t"]})
    assert answer.record == {"sums": [18, 24], "count": 3, "title": ["t"]}


def test_arrays_of_a_model_without_a_batch_axis_have_none(door: Door):
    found = door.predict("whole", {"table.1": np.ones((5, 2), np.float32)}).outputs
    assert {name: array.shape for name, array in found.items()} == {"sums.1": (2,), "count": (), "title": (1,)}
    assert found["sums.1"].tolist() == [5, 5]


def test_several_records_without_a_batch_axis_are_runs_of_their_own_or_refused_with_what_to_do(door: Door):
    rows = [{"table": [[1, 2]]}, {"table": [[3, 4]]}]
    if door.is_rest:
        assert [row["sums"] for row in door.predict("whole", rows).as_records()] == [[1, 2], [3, 4]]
        return
    with pytest.raises(InvalidArgument, match="send each record in a separate call"):
        door.predict("whole", rows)


def test_records_of_different_sizes_may_be_sent_apart(door: Door):
    rows = [{"x": [1.0, 2.0]}, {"x": [1.0]}]
    with pytest.raises(InvalidArgument, match=r"same size.* sizes in separate (calls|requests)"):
        door.predict("echo-float32", rows)
    assert [door.predict("echo-float32", row).record for row in rows] == rows
