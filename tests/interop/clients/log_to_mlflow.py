"""Log two models to the MLflow server of MLFLOW_TRACKING_URI and print what mlflow.pyfunc answers to the rows of the second argument.

Usage: log_to_mlflow.py FILE, with `{"rows": [{…}, …]}` in the file.
"""

import json
import sys

import mlflow
import numpy as np
import pandas as pd
import xgboost
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

random = np.random.default_rng(7)
COUNT = 400
data = pd.DataFrame(
    {
        "age": random.integers(18, 80, COUNT),
        "income": random.normal(3000, 900, COUNT).round(2),
        "home": random.choice(["rent", "own", "other"], COUNT),
    }
)
chance = 1 / (1 + np.exp((data.income - 3000) / 400 - (data.home == "rent") + (data.age - 40) / 30))
target = (random.random(COUNT) < chance).astype(int)
steps = [("home", OneHotEncoder(handle_unknown="ignore"), ["home"]), ("numbers", StandardScaler(), ["age", "income"])]
forest = Pipeline(
    [("columns", ColumnTransformer(steps)), ("forest", RandomForestClassifier(30, max_depth=6, random_state=0))]
).fit(data, target)
numbers = data[["age", "income"]].astype(float)
booster = xgboost.XGBClassifier(n_estimators=20, max_depth=3).fit(numbers, target)

with mlflow.start_run():
    mlflow.sklearn.log_model(
        forest,
        name="forest",
        registered_model_name="credit",
        signature=infer_signature(data, forest.predict(data)),
        input_example=data[:8],
        serialization_format="cloudpickle",
    )
    mlflow.xgboost.log_model(
        booster,
        name="booster",
        registered_model_name="boosted",
        signature=infer_signature(numbers, booster.predict(numbers)),
        input_example=numbers[:8],
    )
MlflowClient().set_registered_model_alias("credit", "champion", 1)

with open(sys.argv[1]) as file:  # noqa: PTH123
    rows = pd.DataFrame(json.load(file)["rows"])
answers = {
    "credit": mlflow.pyfunc.load_model("models:/credit@champion").predict(rows),
    "boosted": mlflow.pyfunc.load_model("models:/boosted/1").predict(rows[["age", "income"]].astype(float)),
    "credit_chances": forest.predict_proba(rows),
    "boosted_chances": booster.predict_proba(rows[["age", "income"]].astype(float))[:, 1],
}
print(json.dumps({name: np.asarray(answer).tolist() for name, answer in answers.items()}))
