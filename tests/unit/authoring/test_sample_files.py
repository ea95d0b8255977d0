"""Files of example rows: what each kind becomes, and what is said of a file that is none."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from limen.authoring.samples.files import read_sample
from limen.contracts.errors import InvalidPackage

FRAME = pd.DataFrame(
    {
        "zip": ["01234", "98765", None],
        "rooms": [3, 2, 4],
        "floor": pd.array([1, None, 3], "Int64"),
        "home": pd.Categorical(["own", "rent", "own"], ["own", "rent", "free"]),
        "seen": pd.to_datetime(["2026-01-02", "2026-01-03T04:05:06", None], format="ISO8601"),
        "garden": [True, False, True],
    }
)


@pytest.fixture
def text(tmp_path):
    """Write a text file and return its path."""

    def write(content: str, encoding: str = "utf-8", name: str = "rows.csv"):
        path = tmp_path / name
        path.write_text(content, encoding=encoding)
        return path

    return write


def column(path, name: str):
    found = read_sample(path)
    return found.columns[name].dtype.name, found.columns[name].tolist(), found.reasons.get(name, "")


@pytest.mark.parametrize(
    ("cells", "dtype", "values", "why"),
    [
        ("01234,98765", "object", ["01234", "98765"], "leading zeros"),
        ("0,10", "int64", [0, 10], ""),
        ("1,NA", "float64", [1.0, None], "whole numbers with gaps"),
        ("1.5,", "float64", [1.5, None], ""),
        ("9007199254740993,2", "int64", [9007199254740993, 2], ""),
        ("9007199254740993,null", "object", ["9007199254740993", None], "more digits"),
        ("18446744073709551615,1", "uint64", [18446744073709551615, 1], "unsigned"),
        ("99999999999999999999999999999,1", "object", ["99999999999999999999999999999", "1"], "more digits"),
        ("1_000,2", "object", ["1_000", "2"], "1 of 2"),
        ("yes,no", "object", ["yes", "no"], ""),
        ("True,", "object", ["True", None], "true and false with gaps"),
        ("2026-01-02,2026-01-03T10:00:00Z", "object", ["2026-01-02", "2026-01-03T10:00:00Z"], "dates are text"),
        ("N/A,NaN", "float64", [None, None], "no value"),
        ("1e3,.5", "float64", [1000.0, 0.5], ""),
        (" a,b ", "object", [" a", "b "], ""),
    ],
)
def test_cells_become_what_the_model_was_trained_on(text, cells, dtype, values, why):
    name, found, reason = column(text("first,x\n" + "\n".join(f"1,{cell}" for cell in cells.split(","))), "x")
    assert (name, [None if str(value) == "nan" else value for value in found]) == (dtype, values)
    assert why in reason
    assert bool(why) == bool(reason)


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_other_separators_are_found_and_said(text, separator, word):
    found = read_sample(text("a;x\n1,5;text\n-2,25;more\n".replace(";", separator)))
    assert found.columns["a"].tolist() == [1.5, -2.25]
    assert found.reasons["a"] == "numbers with a decimal comma"
    assert found.notes == (f"rows.csv: cells are separated by {word}",)


def test_the_separator_is_the_one_that_makes_a_table(text):
    found = read_sample(text('name,note\n"a;b","x;y;z"\nc,"1;2"\n'))
    assert list(found.columns) == ["name", "note"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_marks_of_other_programs_at_the_start_are_no_part_of_a_name(text, encoding):
    assert list(read_sample(text("city,n\nMálaga,1\n", encoding)).columns) == ["city", "n"]


def test_the_names_of_rows_as_pandas_and_r_write_them_are_a_column_without_a_name(text):
    assert list(read_sample(text(",a,b\n0,1,2\n1,3,4\n")).columns) == ["Unnamed: 0", "a", "b"]
    assert list(read_sample(text('"a","b"\n"1",1,2\n"2",3,4\n')).columns) == ["Unnamed: 0", "a", "b"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "needs a header line with a name for every column"),
        ("a,,b\n1,2,3\n", "needs a header line with a name for every column"),
        ("a,b,a\n1,2,3\n", "more than one column named a"),
        ("a,b\n", "has a header line and no rows"),
        ("a,b\n1,2\n\n1,2,3,4\n", "line 4 has 4 cells and the header has 2"),
    ],
)
def test_a_text_that_is_no_table_is_refused_with_the_place(text, content, said):
    path = text(content)
    with pytest.raises(InvalidPackage) as caught:
        read_sample(path)
    assert said in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_columnar_files_have_types_and_categories_of_their_own(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    FRAME.to_parquet(path) if kind == "parquet" else FRAME.to_feather(path)
    found = read_sample(path)
    assert {name: array.dtype.name for name, array in found.columns.items()} == {
        "zip": "object",
        "rooms": "int64",
        "floor": "float64",
        "home": "object",
        "seen": "object",
        "garden": "bool",
    }
    assert found.columns["zip"].tolist() == ["01234", "98765", None]
    assert found.columns["seen"].tolist() == ["2026-01-02T00:00:00", "2026-01-03T04:05:06", None]
    assert found.categories == {"home": ("own", "rent", "free")}
    assert found.is_typed


def test_a_dictionary_that_only_saves_room_declares_no_categories(tmp_path):
    table = pa.table({"home": pa.array(["own", "rent"]).dictionary_encode(), "day": [dt.date(2026, 1, 2)] * 2})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    found = read_sample(tmp_path / "rows.parquet")
    assert found.categories == {}
    assert found.columns["home"].tolist() == ["own", "rent"]
    assert found.columns["day"].tolist() == ["2026-01-02"] * 2


def test_only_the_first_rows_of_a_large_file_are_read(tmp_path):
    pyarrow.parquet.write_table(pa.table({"a": range(30_000)}), tmp_path / "rows.parquet")
    assert read_sample(tmp_path / "rows.parquet").rows == 10_000
    assert read_sample(tmp_path / "rows.parquet", None).rows == 30_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", '{"a": 1, "b": "x"}\n\n{"a": null, "b": "y"}\n'),
        ("rows.json", '[{"a": 1, "b": "x"}, {"b": "y"}]'),
        ("rows.json", '{"a": [1, null], "b": ["x", "y"]}'),
        ("rows.json", '{"columns": ["a", "b"], "index": [0, 1], "data": [[1, "x"], [null, "y"]]}'),
        ("rows.json", '{"instances": [{"a": 1, "b": "x"}, {"a": null, "b": "y"}]}'),
    ],
)
def test_json_is_read_as_records_columns_frames_and_requests(text, name, content):
    found = read_sample(text(content, name=name))
    assert (found.columns["a"].tolist()[0], np.isnan(found.columns["a"][1])) == (1.0, True)
    assert found.columns["b"].tolist() == ["x", "y"]


def test_arrays_are_taken_whole_or_by_name(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 4), np.float32))
    np.savez(tmp_path / "x.npz", ids=np.arange(3), mask=np.ones((3, 2)))
    assert read_sample(tmp_path / "x.npy").whole.shape == (3, 4)
    assert {n: a.shape for n, a in read_sample(tmp_path / "x.npz").columns.items()} == {"ids": (3,), "mask": (3, 2)}


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InvalidPackage, match="looks like NumPy array but cannot be read"):
        read_sample(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.parquet", b"PAR1" + bytes(40), "looks like Parquet but cannot be read"),
        ("rows.json", b"{", "looks like JSON but cannot be read"),
        ("rows.jsonl", b'{"a": 1}\n{', "looks like JSON lines but cannot be read"),
        ("rows.json", b"7", "is not a table"),
        ("rows.json", b'[{"a": {"b": 1}}]', "column a holds values that are not numbers, text or lists of these"),
        ("rows.json", b'[{"a": [1]}, {"a": [1, 2]}]', "column a holds lists of different lengths"),
        ("rows.xlsx", b"PK\x03\x04", "is a spreadsheet or an archive"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidPackage) as caught:
        read_sample(tmp_path / name)
    assert said in caught.value.message


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(InvalidPackage, match=r"install limen\[tables\], or save the sample as CSV"):
        read_sample(tmp_path / "rows.parquet")


def test_a_request_body_may_hold_vectors(text):
    path = text(json.dumps({"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}), name="rows.json")
    assert read_sample(path).columns["x"].tolist() == [[1, 2], [3, 4]]
