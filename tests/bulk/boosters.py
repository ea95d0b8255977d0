"""Training data and served answers for the bulk tests of boosters: rows that differ, with gaps, categories and values never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from limen.authoring.scaffolding import create_package
from limen.contracts.validation.records import RecordCodec
from limen.packaging.manifest.decoder import read_manifest
from limen.runtime.execution import load, run
from tests.bulk.verdicts import same

COUNT = 240
RANDOM = np.random.default_rng(11)
HOMES = ("own", "rent", "with others")
PLANS = (10, 20, 30)


def table(*, categories: bool) -> pd.DataFrame:
    """Return rows of numbers of several scales, with gaps; and of categories of text and of whole numbers."""
    data = pd.DataFrame(
        {
            "small": RANDOM.normal(size=COUNT),
            "large": RANDOM.lognormal(8, 2, COUNT),
            "count": RANDOM.integers(0, 9, COUNT).astype(float),
        }
    )
    data.loc[RANDOM.random(COUNT) < 0.15, "small"] = np.nan
    data.loc[RANDOM.random(COUNT) < 0.1, "large"] = np.nan
    if categories:
        data["home"] = pd.Categorical(RANDOM.choice(HOMES, COUNT), categories=HOMES)
        data["plan"] = pd.Categorical(RANDOM.choice(PLANS, COUNT), categories=PLANS)
        data.loc[RANDOM.random(COUNT) < 0.1, ["home", "plan"]] = None
    return data


def targets(data: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what models are trained to answer."""
    value = data["small"].fillna(0.5).to_numpy() + np.log1p(data["large"].fillna(0).to_numpy()) / 4
    if "home" in data:
        value = value + (data["home"] == "rent").to_numpy() - (data["plan"] == 20).to_numpy()
    return {
        "value": value,
        "positive": np.exp(value / 3),
        "share": 1 / (1 + np.exp(-value + value.mean())),
        "flag": (value > np.median(value)).astype(int),
        "kind": np.digitize(value, np.quantile(value, [0.33, 0.66])),
        "both": np.column_stack([value, -(value**2)]),
    }


def asked(data: pd.DataFrame) -> pd.DataFrame:
    """Return rows like those of training and others: other scales, the whole row missing, one column missing."""
    rows = data.iloc[:24].copy()
    rows.loc[rows.index[:6], "small"] *= 100
    rows.loc[rows.index[6:9], :] = np.nan
    for i, name in enumerate(rows):
        rows.loc[rows.index[10 + i], name] = np.nan
    return rows


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as callers of the record API send them."""
    plain = rows.astype(object).where(rows.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict("records")]


def packaged(file: Path, folder: Path) -> Path:
    """Make a package of a booster's own file."""
    create_package("model", file, folder, None)
    return folder


def served(folder: Path, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Ask a package as a replica does: judged by its contract, together and one by one; both must agree."""
    manifest = read_manifest(folder)
    model, binding = load(folder, manifest)
    codec = RecordCodec(manifest.contract)
    try:
        found = run(model, binding, codec.tensors(rows), {}, len(rows), len(rows))
        alone = [run(model, binding, codec.tensors([row]), {}, 1, 1) for row in reversed(rows)]
    finally:
        model.close()
    same(
        {name: np.concatenate([a[name] for a in reversed(alone)]) for name in found},
        found,
        relative=1e-5,
        absolute=1e-6,
    )
    return found
