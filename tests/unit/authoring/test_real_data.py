"""Which rows of real data a contract refuses: counted by field, with the edit that takes them, and without a value."""

import numpy as np
import pandas as pd
import pytest

from limen.authoring.real_data import judge
from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidPackage

CONTRACT = Contract(
    name="rent",
    inputs=(
        Field(name="zip_code", type="string", pattern="^[0-9]{5}$"),
        Field(name="rooms", type="int64", minimum=1),
        Field(name="home", type="string", enum=("own", "rent"), nullable=True),
        Field(name="garden", type="bool", default=False),
    ),
    outputs=(Field(name="price", type="float64"),),
)
ROWS = """\
id,Zip Code,rooms,home,garden
1,01234,3,own,True
2,123,2.5,,
3,98765,,flat,false
4,98765,0,rent,maybe
5,98765,,rent,true
"""


@pytest.fixture
def rows(tmp_path):
    def write(text, name="rows.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_refusals_are_counted_by_field_with_rows_and_the_edit(rows):
    found = judge(CONTRACT, rows(ROWS))
    assert (found.rows, found.refused) == (5, 4)
    assert sorted(map(str, found.reasons)) == [
        "garden: must be true or false (row 4)",
        "home: must be one of own, rent (row 3); add the values to enum, or remove it",
        "rooms: has no value (rows 3, 5); use type: float64 with nullable: true",
        "rooms: must be a whole number (row 2); use type: float64",
        "rooms: must be ≥ 1 (row 4); lower minimum, or remove it",
        "zip_code: must match ^[0-9]{5}$ (row 2); loosen pattern, or remove it",
    ]
    assert found.notes == ("not fields of the contract: id",)


def test_no_value_of_the_data_is_told(rows):
    found = judge(CONTRACT, rows("zip_code,rooms,home,garden\nPRIVATE1,PRIVATE2,PRIVATE3,PRIVATE4\n"))
    assert found.refused == 1
    assert "PRIVATE" not in str(found.step())


def test_rows_that_are_accepted_become_examples(rows):
    [example] = judge(CONTRACT, rows(ROWS)).accepted
    assert example.name == "row 1 of rows.csv"
    assert example.inputs == {"zip_code": "01234", "rooms": 3, "home": "own", "garden": True}


def test_a_column_that_is_missing_is_named_once(rows):
    found = judge(CONTRACT, rows("zip_code,home\n" + "01234,own\n" * 9))
    assert [str(reason) for reason in found.reasons] == [
        "rooms: is not in the data (rows 1, 2, 3, 4, 5 and 4 more); use type: float64 with nullable: true"
    ]


def test_types_of_columnar_files_are_judged_as_a_caller_would_send_them(tmp_path):
    frame = pd.DataFrame(
        {"zip_code": [1234, 98765], "rooms": [3.0, np.nan], "home": ["own", None], "garden": [True, False]}
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    found = judge(CONTRACT, tmp_path / "rows.parquet")
    assert [str(reason) for reason in found.reasons] == [
        "zip_code: must be text (rows 1, 2); use a number type, or write the column as text",
        "rooms: has no value (row 2); use type: float64 with nullable: true",
    ]


def test_all_columns_together_are_the_only_vector(rows, tmp_path):
    vector = Contract(
        name="iris",
        inputs=(Field(name="x", type="float32", shape=(3,)),),
        outputs=(Field(name="y", type="float64"),),
    )
    assert judge(vector, rows("a,b,c\n1,2,3\n4,5,x\n")).refused == 1
    np.save(tmp_path / "rows.npy", np.ones((4, 3)))
    assert judge(vector, tmp_path / "rows.npy").refused == 0
    assert judge(vector, rows('x\n"[1, 2, 3]"\n"[1, 2]"\n')).refused == 1


def test_decimal_commas_of_a_file_with_semicolons_are_numbers(rows):
    contract = Contract(name="m", inputs=(Field(name="a", type="float32"),), outputs=(Field(name="y", type="float64"),))
    assert judge(contract, rows("a;b\n1,5;x\n")).refused == 0


def test_data_without_a_column_of_the_contract_is_refused(rows):
    with pytest.raises(
        InvalidPackage, match=r"has no column of the contract, which takes zip_code, rooms, home, garden; it has a"
    ):
        judge(CONTRACT, rows("a\n1\n"))
