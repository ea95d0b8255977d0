"""Python classes: their imports are their own, and whatever they do wrong is told without their words."""

import sys
from textwrap import dedent

import numpy as np
import pytest

from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidPackage, ModelFailed, Reason
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends import backend

SECRET = "the-password-is-42"
GIVEN = {"x": np.array([1.0, 2.0])}


@pytest.fixture
def load(tmp_path):
    """Return a function that loads a class from source; further files by name."""
    loaded = []

    def load(source, folder="package", files=None):
        root = tmp_path / folder
        for name, text in {"model.py": source, **(files or {})}.items():
            (root / name).parent.mkdir(exist_ok=True, parents=True)
            (root / name).write_text(dedent(text))
        contract = Contract(
            name="m", inputs=(Field(name="x", type="float64"),), outputs=(Field(name="y", type="float64"),)
        )
        model = backend("python").load(root, Manifest(contract=contract, backend="python", artifact="model.py:Model"))
        loaded.append(model)
        return model

    yield load
    for model in loaded:
        model.close()


def answers(expression: str) -> str:
    return f"""
        import numpy as np

        class Model:
            def predict(self, inputs):
                return {expression}
    """


def refusal(load, source) -> InvalidPackage:
    with pytest.raises(InvalidPackage) as caught:
        load(source)
    return caught.value


def test_lists_become_arrays(load):
    answer = load(answers("{'y': [1, 2], 't': ['a', 'b'], 'm': [[0.5], [1.5]], 'e': []}")).predict(GIVEN, {})
    assert {name: (array.tolist(), array.dtype) for name, array in answer.items()} == {
        "y": ([1, 2], np.int64),
        "t": (["a", "b"], object),
        "m": ([[0.5], [1.5]], np.float64),
        "e": ([], np.float64),
    }


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("None", "must answer with a dict"),
        ("[1]", "must answer with a dict"),
        ("{1: [1]}", "name its outputs with strings"),
        ("{'y': 1.0}", "must have one entry for each row"),
        ("{'y': np.float64(1)}", "must have one entry for each row"),
        ("{'y': [[1], [1, 2]]}", "rows of different lengths"),
    ],
)
def test_an_answer_of_another_form_is_model_failed_and_says_what_is_wrong(load, expression, text):
    with pytest.raises(ModelFailed, match=text):
        load(answers(expression)).predict(GIVEN, {})


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "MemoryError"])
def test_what_the_class_raises_is_the_cause_and_not_the_text(load, error):
    model = load(f"""
        class Model:
            def predict(self, inputs):
                raise {error}("{SECRET}")
    """)
    with pytest.raises(ModelFailed) as caught:
        model.predict(GIVEN, {})
    assert SECRET not in str(caught.value)
    assert type(caught.value.__cause__).__name__ == error


def test_a_stream_yields_its_parts_and_a_break_is_model_failed(load):
    model = load(f"""
        class Model:
            def predict(self, inputs):
                return {{"y": inputs["x"]}}

            def stream(self, inputs):
                yield {{"y": [1.0]}}
                raise ValueError("{SECRET}")
    """)
    assert model.can_stream
    parts = model.stream(GIVEN, {})
    assert next(parts)["y"].tolist() == [1.0]
    with pytest.raises(ModelFailed) as caught:
        next(parts)
    assert SECRET not in str(caught.value)
    assert SECRET in str(caught.value.__cause__)


def test_leaving_a_stream_early_closes_the_classes_generator(load):
    model = load("""
        class Model:
            closed = False

            def predict(self, inputs):
                return {"y": [float(self.closed)]}

            def stream(self, inputs):
                try:
                    while True:
                        yield {"y": [1.0]}
                finally:
                    self.closed = True
    """)
    parts = model.stream(GIVEN, {})
    next(parts)
    parts.close()
    assert model.predict(GIVEN, {})["y"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [("inputs", 0), ("inputs, parameters", 7), ("inputs, *rest", 7), ("inputs, parameters=None", 7)],
)
def test_parameters_are_given_to_methods_that_take_them(load, parameters, expected):
    model = load(f"""
        class Model:
            def predict(self, {parameters}):
                given = dict(enumerate([v for k, v in locals().items() if k not in ("self", "inputs")]))
                found = given.get(0) or {{}}
                found = found[0] if isinstance(found, tuple) else found
                return {{"y": [found.get("beams", 0)]}}
    """)
    assert model.predict(GIVEN, {"beams": 7})["y"].tolist() == [expected]


def test_load_gets_the_package_folder_and_close_is_called_once(load, tmp_path):
    model = load("""
        class Model:
            def load(self, path):
                self.path = path

            def predict(self, inputs):
                return {"y": [str(self.path)]}

            def close(self):
                with (self.path / "closed.txt").open("a") as file:
                    file.write("x")
    """)
    assert model.predict(GIVEN, {})["y"].tolist() == [str(tmp_path / "package")]
    model.close()
    model.close()
    assert (tmp_path / "package" / "closed.txt").read_text() == "x"


def test_a_close_that_fails_is_logged(load, caplog):
    model = load(answers("{}") + f"\n            def close(self):\n                raise ValueError('{SECRET}')\n")
    model.close()
    assert SECRET in caplog.text


class TestImports:
    SOURCE = """
        import features
        from features import NAME
        from parts.deep import DEPTH
        from . import features as again

        class Model:
            def predict(self, inputs):
                import late
                from parts import deep
                return {"y": [NAME, late.NAME, again.NAME, features.NAME, str(DEPTH), str(deep.DEPTH)]}
    """

    def files(self, name):
        return {
            "features.py": f"NAME = '{name}'",
            "late.py": "from features import NAME",
            "parts/__init__.py": "",
            "parts/deep.py": "DEPTH = 2",
        }

    def test_two_packages_with_the_same_module_names_do_not_meet(self, load):
        one = load(self.SOURCE, "one", self.files("one"))
        two = load(self.SOURCE, "two", self.files("two"))
        for model, name in ((one, "one"), (two, "two"), (one, "one")):
            assert model.predict(GIVEN, {})["y"].tolist() == [name] * 4 + ["2"] * 2

    def test_nothing_is_left_behind(self, load, tmp_path):
        before = (list(sys.path), set(sys.modules))
        model = load(self.SOURCE, files=self.files("one"))
        model.predict(GIVEN, {})
        assert sys.path == before[0]
        assert {name for name in sys.modules if name in ("model", "features", "late", "parts")} == set()
        model.close()
        assert set(sys.modules) - before[1] == set()
        assert list(tmp_path.rglob("__pycache__")) == []

    def test_other_code_does_not_see_the_package(self, load):
        load(self.SOURCE, files=self.files("one"))
        with pytest.raises(ModuleNotFoundError):
            __import__("features")

    def test_a_file_may_have_the_name_of_an_installed_module(self, load):
        model = load(
            """
            import json
            import random

            class Model:
                def predict(self, inputs):
                    return {"y": [random.NAME, json.dumps(1)]}
            """,
            files={"random.py": "NAME = 'mine'"},
        )
        assert model.predict(GIVEN, {})["y"].tolist() == ["mine", "1"]
        assert __import__("random").random() < 1

    def test_a_folder_of_data_hides_no_installed_module(self, load, tmp_path):
        (tmp_path / "package" / "json").mkdir(parents=True)
        model = load(
            "import json\n\nclass Model:\n    def predict(self, inputs):\n        return {'y': [json.dumps(1)]}"
        )
        assert model.predict(GIVEN, {})["y"].tolist() == ["1"]

    def test_dataclasses_and_annotations_work(self, load):
        model = load("""
            from __future__ import annotations
            import dataclasses
            import typing

            @dataclasses.dataclass
            class Pair:
                left: int

            class Model:
                def predict(self, inputs):
                    return {"y": [Pair(1).left, int(typing.get_type_hints(Pair)["left"] is int)]}
        """)
        assert model.predict(GIVEN, {})["y"].tolist() == [1, 1]

    def test_a_compiled_file_in_the_package_is_not_run(self, load, tmp_path):
        cache = tmp_path / "package" / "__pycache__"
        cache.mkdir(parents=True)
        (cache / f"features.{sys.implementation.cache_tag}.pyc").write_bytes(b"not what was read")
        model = load(answers("{'y': [__import__('features').NAME]}"), files={"features.py": "NAME = 'source'"})
        assert model.predict(GIVEN, {})["y"].tolist() == ["source"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("class Other:\n    pass", "has no class Model"),
        ("Model = 3", "has no class Model"),
        ("class Model:\n    pass", "needs a method predict"),
        ("class Model:\n    async def predict(self, inputs):\n        return {}", "must be a plain method"),
        ("class Model:\n    def predict(self, inputs)\n        return {}", "raised SyntaxError while loading"),
        (f"raise ValueError('{SECRET}')", "raised ValueError while loading"),
        ("import sys; sys.exit(3)", "raised SystemExit while loading"),
        ("class Model:\n    def __init__(self, size):\n        pass\n    predict = None", "needs a method predict"),
    ],
)
def test_a_class_that_cannot_be_loaded_is_refused_in_our_words(load, source, text):
    before = set(sys.modules)
    error = refusal(load, source)
    assert text in error.message
    assert SECRET not in error.message
    assert not {name for name in set(sys.modules) - before if name.startswith("limen_package_")}


def test_a_missing_library_is_named(load):
    error = refusal(load, "import surely_not_installed\n")
    assert error.reason is Reason.MISSING_DEPENDENCY
    assert "surely_not_installed" in error.message
