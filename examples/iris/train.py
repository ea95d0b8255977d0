"""Trains a classifier on the iris flowers and writes it as model.onnx, with the flowers as iris.csv."""

from pathlib import Path

from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

iris = load_iris(as_frame=True)
flowers = iris.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
species = iris.target_names[iris.target]
# To the end, so that it is the same model on every machine.
model = LogisticRegression(max_iter=1000, tol=1e-8).fit(flowers.to_numpy(), species)

graph = to_onnx(model, flowers.to_numpy("float32")[:1], options={"zipmap": False})
Path("model.onnx").write_bytes(graph.SerializeToString())
flowers.to_csv("iris.csv", index=False)
print(
    f"model.onnx: names {model.score(flowers.to_numpy(), species):.1%} of its {len(flowers)} flowers; they are in iris.csv"
)
