"""What a CSV of example rows becomes, and what is said of one that does not belong to the model."""

import numpy as np
import pytest

from limen.authoring.samples.files import read_sample
from limen.authoring.scaffolding import create_package
from limen.contracts.errors import InvalidPackage
from limen.packaging.manifest.decoder import read_manifest
from limen.serving.dataplane.metadata import platform_of
from tests.services.packages import write_iris, write_sum_graph


@pytest.fixture
def sample(tmp_path):
    """Write a sample and return its path."""

    def write(text: str, encoding: str = "utf-8"):
        path = tmp_path / "sample.csv"
        path.write_text(text, encoding=encoding)
        return path

    return write


@pytest.mark.parametrize("cells", ["True\nFalse\nTrue", "true\nfalse\ntrue", "TRUE\nFALSE\nTRUE"])
def test_booleans_as_pandas_reads_them_are_booleans(sample, cells):
    found = read_sample(sample("garden\n" + cells + "\n")).columns["garden"]
    assert (found.dtype, found.tolist()) == (np.bool_, [True, False, True])


def test_a_column_of_booleans_and_other_text_stays_text(sample):
    assert read_sample(sample("garden,n\nTrue,1\nmaybe,2\n")).columns["garden"].tolist() == ["True", "maybe"]
    assert read_sample(sample("garden,n\nTrue,1\n,2\n")).columns["garden"].tolist() == ["True", None]


def test_a_sample_in_another_encoding_is_named_with_what_to_do(sample):
    path = sample("city\nM\u00e1laga\n", "latin-1")
    with pytest.raises(InvalidPackage) as caught:
        read_sample(path)
    assert str(path) in caught.value.message
    assert "is not UTF-8 text" in caught.value.message
    assert "iconv -f ENCODING -t UTF-8" in caught.value.message


def test_a_sample_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InvalidPackage, match=r"no such file: .*no\.csv"):
        read_sample(tmp_path / "no.csv")


def test_a_sample_without_a_column_of_the_model_is_refused(sample, tmp_path):
    graph = write_sum_graph(tmp_path / "sum.onnx")
    with pytest.raises(InvalidPackage) as caught:
        create_package("copy", graph, tmp_path / "copy", sample("when,where\n1,2\n"))
    assert "has none of the model's input columns. The model takes a, b; the sample has when, where" in str(
        caught.value
    )
    assert not (tmp_path / "copy").exists()


def test_a_sample_of_another_width_than_a_matrix_without_names_is_refused(sample, tmp_path):
    iris = write_iris(tmp_path / "iris") / "model.onnx"
    with pytest.raises(
        InvalidPackage,
        match=r"has 2 columns but the model takes 4 and does not name them\. The file has a, b; give all",
    ):
        create_package("copy", iris, tmp_path / "copy", sample("a,b\n1,2\n"))
    made = create_package("copy", iris, tmp_path / "copy", sample("a,b,c,d\n1,2,3,4\n"))
    assert (made.inputs, made.notes) == (4, ())


def test_columns_that_a_sample_lacks_are_named(sample, tmp_path):
    graph = write_sum_graph(tmp_path / "sum.onnx")
    path = sample("a,other\n1,2\n")
    made = create_package("copy", graph, tmp_path / "copy", path)
    assert made.notes == (
        f"{path}: left out other, which the model does not take",
        f"{path} lacks columns that the model takes: b",
    )
    assert len(read_manifest(made.folder).contract.inputs) == 2


def test_the_platform_of_a_booster_is_true_of_both_its_formats():
    assert platform_of("xgboost") == "xgboost_booster"
