"""Which columns of a sample are inputs of a model, and what is said of the others."""

import numpy as np
import pandas as pd
import pytest

from limen.authoring.samples.frames import as_sample
from limen.authoring.samples.matching import matched, without_targets
from limen.contracts.errors import InvalidPackage
from limen.contracts.tensors import TensorSpec
from limen.runtime.predictor import Signature

NAMED = Signature((TensorSpec("X", "float32", (-1, 2), ("sepal_length", "width")),), ())
MATRIX = Signature((TensorSpec("X", "float32", (-1, 2)),), ())
TABLE = Signature((TensorSpec("age", "float64", (-1,)), TensorSpec("home", "string", (-1,))), ())
IMAGE = Signature((TensorSpec("image", "float32", (-1, 3, -1)),), ())
CODE = Signature((), ())


def sample(**columns):
    return as_sample({name.replace("__", " "): np.asarray(values) for name, values in columns.items()}, "rows.csv")


def test_the_names_of_the_model_decide_and_what_is_left_out_is_said():
    found = matched(sample(id=[1, 2], sepal__length=[1.0, 2.0], width=[3.0, 4.0], species=["a", "b"]), NAMED)
    assert list(found.columns) == ["sepal_length", "width"]
    assert found.notes == (
        "rows.csv calls sepal_length sepal length",
        "rows.csv: left out id, species, which the model does not take",
    )


def test_a_column_that_the_model_names_is_an_input_whatever_it_is_called():
    named = Signature((TensorSpec("X", "float32", (-1, 2), ("Unnamed: 0", "id")),), ())
    assert list(matched(as_sample(pd.DataFrame({"Unnamed: 0": [0, 1], "id": [5, 6]})), named).columns) == [
        "Unnamed: 0",
        "id",
    ]


def test_a_matrix_without_names_takes_the_columns_that_do_not_number_the_rows():
    found = matched(sample(row_id=[7, 8], a=[1.0, 1.0], b=[2.0, 2.0]), MATRIX)
    assert list(found.columns) == ["a", "b"]
    assert found.notes == ("rows.csv: left out row_id, which only number the rows",)


def test_a_matrix_of_another_width_says_both_numbers_and_how_to_leave_a_column_out():
    with pytest.raises(InvalidPackage) as caught:
        matched(sample(a=[1, 1], b=[2, 2], species=[0, 1]), MATRIX)
    assert caught.value.message == (
        "rows.csv has 3 columns but the model takes 2 and does not name them. The file has a, b, species; "
        "exclude columns that are not inputs with --target COLUMN"
    )
    kept = without_targets(sample(a=[1, 1], b=[2, 2], species=[0, 1]), ["species"])
    assert list(matched(kept, MATRIX).columns) == ["a", "b"]


def test_a_target_that_is_no_column_is_refused():
    with pytest.raises(InvalidPackage, match=r"has no column specie to leave out; it has a, species"):
        without_targets(sample(a=[1], species=[0]), ["specie"])


def test_code_is_given_all_columns_but_those_that_number_the_rows_and_are_not_spoken_of():
    rows = sample(customer_id=[7, 8], age=[30, 30], grid=[1, 2])
    assert list(matched(rows, CODE).columns) == ["age", "grid"]
    assert list(matched(rows, CODE, ["customer_id"]).columns) == ["customer_id", "age", "grid"]
    # A number that comes twice numbers no rows.
    assert list(matched(sample(id=[7, 7], age=[1, 2]), CODE).columns) == ["id", "age"]


@pytest.mark.parametrize(
    ("array", "signature", "names"),
    [
        (np.ones((2, 2)), MATRIX, ["X"]),
        (np.ones((2, 2)), NAMED, ["sepal_length", "width"]),
        (np.ones((2, 2)), TABLE, ["age", "home"]),
        (np.ones((2, 3, 5)), IMAGE, ["image"]),
        (np.ones(2), Signature((TensorSpec("x", "float32", (-1, 1)),), ()), ["x"]),
    ],
)
def test_an_array_is_the_only_tensor_or_its_columns(array, signature, names):
    assert list(matched(as_sample(array), signature).columns) == names


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (IMAGE, r"shape \[7\] but the model takes \[3, -1\]"),
        (TABLE, r"shape \[7\] but the model takes 2 columns"),
    ],
)
def test_an_array_of_another_shape_is_refused_with_both_shapes(signature, said):
    with pytest.raises(InvalidPackage, match=said):
        matched(as_sample(np.ones((2, 7))), signature)


def test_frames_of_every_kind_give_the_same_sample():
    frame = pd.DataFrame({"n": [1, 2], "t": ["a", None], "f": [0.5, np.nan]}, index=[5, 3])
    kinds = [frame, frame.to_dict("list"), frame.to_dict("records"), frame.to_records(index=False)]
    for data in kinds:
        found = as_sample(data)
        assert found.columns["n"].tolist() == [1, 2]
        assert found.columns["t"].tolist() == ["a", None]
        assert (found.columns["f"][0], np.isnan(found.columns["f"][1])) == (0.5, True)
    assert as_sample(frame["n"]).columns["n"].tolist() == [1, 2]


@pytest.mark.parametrize("data", [7, "text", [], {}, np.float64(1), pd.DataFrame(), pd.DataFrame({"a": []})])
def test_what_holds_no_rows_is_refused(data):
    with pytest.raises(InvalidPackage):
        as_sample(data)


def test_two_columns_of_one_name_and_columns_of_different_lengths_are_refused():
    with pytest.raises(InvalidPackage, match="more than one column named a"):
        as_sample(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(InvalidPackage, match="columns of different lengths"):
        as_sample({"a": [1], "b": [1, 2]})
