"""A pickle becomes a package without it, and answers as before; without trust it is not touched, with trust it reaches nothing."""

import asyncio
import json
import pickle
import socket
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from limen.authoring.check import check_package
from limen.authoring.conversion import convert
from limen.authoring.importing import ImportOptions, import_model
from limen.contracts.errors import InvalidPackage, Reason
from limen.packaging.manifest.decoder import read_manifest
from tests.conformance.importers.conftest import NUMBERS, answers, make_linear, table, target
from tests.conformance.importers.conftest import make_pipeline as make_original
from tests.services.mlflow_folder import write_folder

TYPES = {"f": "double", "i": "long", "O": "string"}


def import_pickle(data: bytes, tmp_path: Path, **options):
    (tmp_path / "model.pkl").write_bytes(data)
    options = {"trust_pickle": True, "folder": tmp_path / "package", "name": "credit"} | options
    return import_model(str(tmp_path / "model.pkl"), ImportOptions(**options))


def refusal(data: bytes, tmp_path: Path, **options) -> InvalidPackage:
    with pytest.raises(InvalidPackage) as caught:
        import_pickle(data, tmp_path, **options)
    assert [p.name for p in tmp_path.iterdir() if p.name != "sample.csv"] == ["model.pkl"]
    return caught.value


def columns(original) -> list[dict]:
    """Return the signature that MLflow would infer."""
    rows = original.rows
    if isinstance(rows, np.ndarray):
        return [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, rows.shape[1]]}}]
    kinds = {name: "O" if rows[name].dtype.kind not in "fi" else rows[name].dtype.kind for name in rows}
    return [{"type": TYPES[kind], "name": name, "required": True} for name, kind in kinds.items()]


def test_b92_what_mlflow_pickled_is_served_without_the_pickle_and_answers_as_before(original, tmp_path):
    rows = original.rows[:6]
    kind, example = (
        ("ndarray", rows.tolist())
        if isinstance(rows, np.ndarray)
        else ("dataframe", {"columns": list(rows), "data": rows.to_numpy().tolist()})
    )
    folder = write_folder(
        tmp_path / "credit", "sklearn", original.pickled, inputs=columns(original), example=example, kind=kind
    )
    made = import_model(str(folder), ImportOptions(folder=tmp_path / "package", trust_pickle=True))

    assert made.created.format == original.format
    assert (made.parity.rows, made.parity.problems) == (106, ())
    report = asyncio.run(check_package(tmp_path / "package", tmp_path / "home", trust_code=False))
    assert report.ok, report.steps
    examples = json.loads((tmp_path / "package" / "examples.json").read_bytes())
    assert [example["outputs"].keys() for example in examples] == [original.expected.keys()] * 5
    origin = json.loads((tmp_path / "package" / "origin.json").read_bytes())
    assert origin["parity"] == {"rows": 106, "sample_rows": 6, "largest_difference": made.parity.largest_difference}
    assert origin["versions"] == {"scikit-learn": "1.9.1"}

    found = answers(tmp_path / "package", original.records)
    assert found.keys() == original.expected.keys()
    for name, expected in original.expected.items():
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
        else:
            assert found[name].tolist() == expected.tolist()


def test_skops_gives_the_very_same_numbers(originals, tmp_path):
    original = originals(make_linear)
    made = import_pickle(original.pickled, tmp_path, targets=("skops",))
    assert (made.created.format, made.parity.largest_difference) == ("skops", 0.0)


def test_without_trust_a_pickle_is_not_loaded(tmp_path):
    trap = tmp_path / "trap"
    error = refusal(pickle.dumps(Call("exec", f"open({str(trap)!r}, 'w')")), tmp_path, trust_pickle=False)
    assert error.reason is Reason.UNSAFE_FORMAT
    assert "--trust-pickle" in error.message
    assert not trap.exists()


class Call:
    """Pickles to a call of a builtin."""

    def __init__(self, name: str, *arguments: object) -> None:
        self._name = name
        self._arguments = arguments

    def __reduce__(self):
        return getattr(__builtins__, self._name, None) or __builtins__[self._name], self._arguments


REACH = """
import os, socket
found = []
try:
    socket.create_connection(("127.0.0.1", {port}), 5)
    found.append("network")
except OSError:
    pass
try:
    with open({path!r}, "w") as file:
        file.write("x")
    found.append("files")
except OSError:
    pass
found += [key for key in os.environ if "TOKEN" in key]
raise RuntimeError("reached " + (", ".join(found) or "nothing"))
"""


def test_b92_a_trusted_pickle_reaches_no_network_no_files_and_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = REACH.format(port=server.getsockname()[1], path=str(tmp_path.parent / "left-behind"))
        error = refusal(pickle.dumps(Call("exec", code)), tmp_path)
    assert "the pickle cannot be loaded (RuntimeError: reached nothing)" in error.message
    left = tmp_path.parent / "left-behind"
    assert not left.exists() or left.read_bytes() == b""


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Call("exec", "raise SystemExit(3)"), "ended with status 3 and no answer"),
        (Call("exec", "import os; os.kill(os.getpid(), 9)"), "ended with status -9 and no answer"),
        (Call("exec", "import no_such_module"), "needs the Python module no_such_module, which is not installed here"),
        (Call("exec", "x = bytearray(1 << 40)"), "MiB of memory"),
        ({"weights": [1, 2]}, "the pickle holds a builtins.dict"),
    ],
)
def test_a_pickle_that_cannot_be_converted_is_refused_with_the_reason(tmp_path, model, text):
    assert text in refusal(pickle.dumps(model), tmp_path).message


def test_a_model_of_another_version_of_its_library_is_told_and_compared(originals, tmp_path):
    data = originals(make_linear).pickled
    made = import_pickle(data.replace(version("scikit-learn").encode(), b"1.0.2"), tmp_path, targets=("skops",))
    assert made.parity.problems == ()
    assert "Trying to unpickle estimator LogisticRegression from version 1.0.2" in made.notes[0]


def test_a_damaged_pickle_is_refused(originals, tmp_path):
    data = originals(make_linear).pickled
    assert "the pickle cannot be loaded" in refusal(data[: len(data) // 2], tmp_path).message


def test_the_process_is_ended_when_it_takes_too_long():
    with pytest.raises(InvalidPackage, match="not converted within 1 s"):
        convert(pickle.dumps(Call("exec", "import time; time.sleep(600)")), ("skops",), {}, timeout_s=1)


def test_a_model_that_does_not_take_made_up_rows_is_compared_on_the_sample(tmp_path):
    data = np.abs(make_linear().rows)
    model = make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()).fit(data, data[:, 0] > 10)
    assert (
        "cannot answer (ValueError: Input X contains NaN.); give rows" in refusal(pickle.dumps(model), tmp_path).message
    )
    pd.DataFrame(data[:20]).to_csv(tmp_path / "sample.csv", index=False)
    made = import_pickle(pickle.dumps(model), tmp_path, sample=tmp_path / "sample.csv")
    assert (made.created.format, made.parity.rows) == ("skops", 20)
    assert [note.partition(":")[0] for note in made.notes] == ["onnx is preferred but was not possible"]


def test_text_columns_that_no_encoder_knows_cannot_be_made_up_and_are_asked_for(tmp_path):
    data = pd.DataFrame({"review": ["good", "bad", "good day", "bad day"] * 5, "stars": np.arange(20.0)})
    columns = make_column_transformer((TfidfVectorizer(), "review"), ("passthrough", ["stars"]))
    model = make_pipeline(columns, LogisticRegression()).fit(data, [1, 0] * 10)
    assert "give rows like its training data with --sample" in refusal(pickle.dumps(model), tmp_path).message
    data.to_csv(tmp_path / "sample.csv", index=False)
    assert import_pickle(pickle.dumps(model), tmp_path, sample=tmp_path / "sample.csv").parity.problems == ()


def test_rows_of_categories_are_made_up_with_missing_and_unseen_ones_where_the_original_takes_them(originals, tmp_path):
    """Its encoder takes any value, and its imputer fills what is missing: a conversion that does not is not kept."""
    data = originals(make_original).rows.copy()
    data.loc[::9, "amount"] = np.nan
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["amount", "rate"]),
        (OneHotEncoder(handle_unknown="ignore"), ["home"]),
    )
    model = make_pipeline(columns, LogisticRegression()).fit(data, data.rate > 20)
    made = import_pickle(pickle.dumps(model), tmp_path)
    manifest = read_manifest(tmp_path / "package")
    assert made.parity.rows == 100
    assert {field.name: (field.nullable, field.enum) for field in manifest.contract.inputs} == {
        "amount": (True, None),
        "rate": (True, None),
        "home": (made.created.format == "skops", None),
    }
    rows = pd.DataFrame(
        {"amount": [np.nan, 9.0], "rate": [21.0, np.nan], "home": ["rent", "a boat"], "term": [1.0, 2.0]}
    )
    asked = [{"amount": None, "rate": 21.0, "home": "rent"}, {"amount": 9.0, "rate": None, "home": "a boat"}]
    np.testing.assert_allclose(
        answers(tmp_path / "package", asked)["probabilities"], model.predict_proba(rows), rtol=1e-4, atol=1e-5
    )


def test_an_encoder_that_refuses_other_values_does_so_in_every_format(tmp_path):
    data = pd.DataFrame({"home": ["own", "rent", "other", "rent"] * 5})
    model = make_pipeline(make_column_transformer((OneHotEncoder(), ["home"])), LogisticRegression())
    import_pickle(pickle.dumps(model.fit(data, data.home == "rent")), tmp_path)
    [field] = read_manifest(tmp_path / "package").contract.inputs
    assert field.enum == ("other", "own", "rent")


def test_a_model_that_takes_texts_is_kept_by_skops_and_nothing_is_printed(tmp_path, capfd):
    texts = ["good day", "bad day", "good", "bad"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    assert (
        "the model takes text: give examples in one column with --sample"
        in refusal(pickle.dumps(model), tmp_path).message
    )
    (tmp_path / "sample.csv").write_text("text\ngood day\nbad thing\n")
    made = import_pickle(pickle.dumps(model), tmp_path, sample=tmp_path / "sample.csv")
    assert (made.created.format, made.parity.rows) == ("skops", 2)
    found = answers(tmp_path / "package", [{"text": "good day"}, {"text": "bad thing"}])
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(["good day", "bad thing"]))
    assert capfd.readouterr().err == ""


def test_the_original_gets_booleans_from_a_sample(tmp_path):
    rows = pd.DataFrame({"rooms": [1.0, 2.0, 3.0, 4.0], "garden": [True, False, True, False]})
    rows.to_csv(tmp_path / "sample.csv", index=False)
    model = make_pipeline(FunctionTransformer(), LogisticRegression()).fit(rows, [0, 1, 1, 0])
    made = import_pickle(pickle.dumps(model), tmp_path, sample=tmp_path / "sample.csv", targets=("skops",))
    types = {f.name: f.type for f in read_manifest(made.created.folder).contract.inputs}
    assert types == {"rooms": "float64", "garden": "bool"}


def test_a_sample_that_does_not_fit_is_refused(originals, tmp_path):
    pd.DataFrame({"amount": [1.0]}).to_csv(tmp_path / "sample.csv", index=False)
    sample = {"sample": tmp_path / "sample.csv"}
    assert "lacks columns that the model was trained on: rate, term, home" in (
        refusal(originals(make_original).pickled, tmp_path, **sample).message
    )
    assert f"must have {len(NUMBERS)} columns" in refusal(originals(make_linear).pickled, tmp_path, **sample).message


def test_columns_go_by_the_names_of_the_estimator_whatever_the_order_of_the_signature(tmp_path):
    rows = table()[list(NUMBERS)]
    model = LogisticRegression().fit(rows, target(table()))
    order = list(reversed(NUMBERS))
    inputs = [{"type": "double", "name": name, "required": True} for name in order]
    example = {"columns": order, "data": rows[order][:3].to_numpy().tolist()}
    folder = write_folder(tmp_path / "m", "sklearn", pickle.dumps(model), inputs=inputs, example=example)
    for to in ("onnx", "skops"):
        package = tmp_path / to
        import_model(str(folder), ImportOptions(folder=package, trust_pickle=True, targets=(to,)))
        found = answers(package, rows[:5].to_dict("records"))
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(rows[:5]), rtol=1e-4, atol=1e-6)


CATEGORIES = {"lightgbm": "LGBMClassifier", "xgboost": "XGBClassifier"}


@pytest.mark.parametrize("library", CATEGORIES)
def test_a_pickled_booster_keeps_its_categories_its_best_round_and_its_marker_of_missing_values(library, tmp_path):
    module = pytest.importorskip(library)
    data = table()
    rows = data.assign(home=data.home.astype("category"), rate=data.rate.where(data.rate > 18, -999.0))
    kinds = target(data)
    if library == "lightgbm":
        model = module.LGBMClassifier(n_estimators=60, learning_rate=0.9, n_jobs=1, verbosity=-1)
        model.fit(
            rows[:100],
            kinds[:100],
            eval_X=rows[100:],
            eval_y=1 - kinds[100:],
            callbacks=[module.early_stopping(3, verbose=False)],
        )
        assert 0 < model.best_iteration_ < 60
    else:
        model = module.XGBClassifier(
            n_estimators=60,
            learning_rate=0.9,
            n_jobs=1,
            enable_categorical=True,
            missing=-999.0,
            early_stopping_rounds=3,
        )
        model.fit(rows[:100], kinds[:100], eval_set=[(rows[100:], 1 - kinds[100:])], verbose=False)
    made = import_pickle(pickle.dumps(model), tmp_path)
    assert made.parity is not None
    asked = rows.assign(home=rows.home.where(rows.amount > 8), amount=rows.amount.where(rows.term > 27))
    said = asked.astype({"home": object}).to_dict("records")
    found = answers(
        tmp_path / "package",
        [{k: None if v != v else v for k, v in row.items()} for row in said],  # noqa: PLR0124 - NaN
    )
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(asked), rtol=1e-5)
    assert found["label"].tolist() == model.predict(asked).tolist()


def test_a_sample_has_the_names_of_the_data_frame_where_lightgbm_spells_them_in_its_own_way(tmp_path):
    module = pytest.importorskip("lightgbm")
    rows = table()[list(NUMBERS)].rename(columns={"rate": "the rate"})
    model = module.LGBMClassifier(n_estimators=5, n_jobs=1, verbosity=-1).fit(rows, np.where(target(table()), "b", "a"))
    rows[:20].to_csv(tmp_path / "sample.csv", index=False)
    import_pickle(pickle.dumps(model), tmp_path, sample=tmp_path / "sample.csv")
    found = answers(tmp_path / "package", rows.rename(columns={"the rate": "the_rate"}).to_dict("records"))
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(rows))
    assert found["label"].tolist() == model.predict(rows).tolist()


@pytest.mark.parametrize("library", CATEGORIES)
def test_a_pickled_bare_booster_answers_as_it_does_by_itself(library, tmp_path):
    module = pytest.importorskip(library)
    rows = table()[list(NUMBERS)]
    if library == "lightgbm":
        model = module.train({"verbosity": -1, "num_threads": 1}, module.Dataset(rows, target(table())), 5)
        expected = model.predict(rows)
    else:
        model = module.train({"nthread": 1}, module.DMatrix(rows, target(table())), 5)
        expected = model.predict(module.DMatrix(rows))
    import_pickle(pickle.dumps(model), tmp_path)
    found = answers(tmp_path / "package", rows.to_dict("records"))
    np.testing.assert_allclose(found["prediction"], expected, rtol=1e-5)
