"""Tiny models for suites that talk to a real gateway. Each is a function that writes a package folder; `ALL` writes them all."""

from __future__ import annotations

from pathlib import Path

from limen.contracts.tensors import TYPES
from tests.services.packages import write_code, write_score

LEAK = "/srv/models/secret-plan.txt"
"""What the failing model says in its exception; nobody outside may read it."""

ECHO = """
class Model:
    def predict(self, inputs):
        return dict(inputs)
"""


def echo(folder: Path, type_name: str, more: str = "", shape: str = "[-1]") -> Path:
    """Answer what comes: one vector, of any length unless said otherwise, and of one element type."""
    field = f"{{name: x, type: {type_name}, shape: {shape}{more}}}"
    return write_code(folder, f"inputs: [{field}]\noutputs: [{field}]\n", ECHO)


def pair(folder: Path) -> Path:
    """Add and subtract two vectors of two; at most 64 rows, four of them at once."""
    vectors = [f"{{name: {name}, type: float32, shape: [2]}}" for name in ("a", "b", "sum", "difference")]
    manifest = f"inputs: [{vectors[0]}, {vectors[1]}]\noutputs: [{vectors[2]}, {vectors[3]}]\n"
    code = """
    class Model:
        def predict(self, inputs):
            a, b = inputs["a"], inputs["b"]
            return {"sum": a + b, "difference": a - b}
    """
    return write_code(folder, manifest + "batching: {max_rows: 4, max_request_rows: 64}\n", code)


def typed(folder: Path) -> Path:
    """Take one field of every kind of rule; the answer says what arrived."""
    manifest = """
    inputs:
      - {name: amount, type: float32, minimum: 0, maximum: 1000}
      - {name: count, type: uint8, minimum: 1}
      - {name: grade, type: string, enum: [A, B, C]}
      - {name: code, type: string, pattern: "^[A-Z]{2}[0-9]{2}$"}
      - {name: note, type: string, max_length: 5, default: none}
      - {name: years, type: float32, nullable: true, finite: false}
      - {name: place, type: float64, shape: [2]}
      - {name: photo, type: bytes, max_length: 8, default: ""}
      - {name: flag, type: bool, default: false}
    outputs:
      - {name: total, type: float64}
      - {name: words, type: string}
      - {name: photo, type: bytes}
    """
    code = """
    import numpy as np

    class Model:
        def predict(self, inputs):
            total = inputs["amount"].astype(float) * inputs["count"] + inputs["place"].sum(axis=1)
            columns = [inputs[n] for n in ("grade", "code", "note", "years", "flag")]
            words = np.array([" ".join(map(str, row)) for row in zip(*columns)], object)
            return {"total": total, "words": words, "photo": inputs["photo"]}
    """
    return write_code(folder, manifest, code)


def greedy(folder: Path) -> Path:
    """Say how many parameters came, and leave one behind."""
    code = """
    import numpy as np

    class Model:
        def predict(self, inputs, parameters):
            count = len(parameters)
            parameters["left"] = "behind"
            return {"y": np.full(len(inputs["x"]), count, np.int32)}
    """
    return write_code(folder, "inputs: [{name: x, type: float32}]\noutputs: [{name: y, type: int32}]\n", code)


def moody(folder: Path) -> Path:
    """Answer x, and for -1 to -7 fail in seven ways."""
    code = f"""
    import numpy as np

    class Model:
        def predict(self, inputs):
            x = inputs["x"]
            mood = int(x[0])
            if mood == -3:
                raise RuntimeError("cannot read {LEAK}")
            if mood == -7:
                raise SystemExit("{LEAK}")
            return {{
                -1: lambda: {{"y": x * np.float32("nan")}},
                -2: lambda: {{"y": x * np.float32("inf")}},
                -4: lambda: {{"y": np.concatenate([x, x])}},
                -5: lambda: {{"z": x}},
                -6: lambda: ["y", "{LEAK}"],
            }}.get(mood, lambda: {{"y": x}})()
    """
    return write_code(folder, "inputs: [{name: x, type: float32}]\noutputs: [{name: y, type: float32}]\n", code)


def promises(folder: Path) -> Path:
    """Answer what it is told to, whatever its contract promises; refuse what says so."""
    manifest = """
    inputs:
      - {name: say, type: string}
      - {name: score, type: float32}
    outputs:
      - {name: grade, type: string, enum: [good, bad]}
      - {name: code, type: string, pattern: "^[a-z]+$", max_length: 6}
      - {name: chance, type: float32, minimum: 0, maximum: 1}
      - {name: class, type: int64, enum: [0, 1]}
    """
    code = """
    import numpy as np

    import limen

    class Model:
        def predict(self, inputs):
            say, score = inputs["say"], inputs["score"]
            if "refuse" in say:
                raise limen.Refused("is older than the prices", field="say")
            if "refuse all" in say:
                raise limen.Refused("comes at a time when nothing is sold")
            return {
                "grade": np.array(["good" if w != "grade" else "ugly" for w in say], object),
                "code": np.array(["toolong" if w == "length" else "UP" if w == "pattern" else "low" for w in say], object),
                "chance": score,
                "class": np.array([7 if w == "class" else 1 for w in say]),
            }

        def close(self):
            pass
    """
    return write_code(folder, manifest, code)


def patient(folder: Path) -> Path:
    """Answer x; with a negative x only once the test opens the gate. It takes long enough to have a thread of its own."""
    code = """
    from tests.conformance.serving.gates import NEVER, OPEN, WAITING

    class Model:
        def predict(self, inputs):
            NEVER.wait(0.004)
            if inputs["x"][0] < 0:
                WAITING.release()
                OPEN.wait(30)
            return {"y": inputs["x"]}
    """
    # Rows that are made up to try a model would wait for a test that does not know of them.
    manifest = """
    inputs: [{name: x, type: float32}]
    outputs: [{name: y, type: float32}]
    batching: {merge: false}
    """
    return write_code(folder, manifest, code)


def countdown(folder: Path) -> Path:
    """Answer in several parts."""
    code = """
    import numpy as np

    class Model:
        def predict(self, inputs):
            return {"y": inputs["n"]}

        def stream(self, inputs):
            for value in range(int(inputs["n"][0]), 0, -1):
                yield {"y": np.array([value], np.int32)}
    """
    return write_code(folder, "inputs: [{name: n, type: int32}]\noutputs: [{name: y, type: int32}]\n", code)


def steps(folder: Path) -> Path:
    """Answer in n parts, each but the first only when the test lets it; a negative n breaks off after as many."""
    code = f"""
    import numpy as np

    from tests.conformance.serving.gates import CLOSED, MADE, STEP

    class Model:
        def predict(self, inputs):
            return {{"y": inputs["n"]}}

        def stream(self, inputs):
            n = int(inputs["n"][0])
            try:
                for value in range(abs(n)):
                    if value:
                        STEP.acquire(timeout=30)
                    MADE.release()
                    yield {{"y": inputs["n"] * 0 + value}}
                if n < 0:
                    raise RuntimeError("cannot read {LEAK}")
            finally:
                CLOSED.release()
    """
    return write_code(folder, "inputs: [{name: n, type: int32}]\noutputs: [{name: y, type: int32}]\n", code)


def flood(folder: Path) -> Path:
    """Answer without end, in parts of so many characters."""
    code = """
    import numpy as np

    from tests.conformance.serving.gates import CLOSED, MADE, NEVER

    class Model:
        def predict(self, inputs):
            return {"y": np.array(["x" * n for n in inputs["size"]], object)}

        def stream(self, inputs):
            part = self.predict(inputs)
            try:
                while True:
                    NEVER.wait(0.002)
                    MADE.release()
                    yield part
            finally:
                CLOSED.release()
    """
    return write_code(folder, "inputs: [{name: size, type: int32}]\noutputs: [{name: y, type: string}]\n", code)


def teller(folder: Path) -> Path:
    """Tell a text word by word, with what else was said; `word_count` says after how many to stop."""
    manifest = """
    inputs:
      - {name: text_input, type: string}
      - {name: grid, type: int32, shape: [2, 2], default: [[0, 0], [0, 0]]}
      - {name: weights, type: float32, shape: [-1], default: [1]}
      - {name: last, type: bool, shape: [1], default: [true]}
      - {name: mood, type: string, nullable: true}
    outputs:
      - {name: text_output, type: string}
      - {name: scores, type: float32, shape: [2]}
      - {name: grid, type: int32, shape: [2, 2]}
      - {name: said, type: string}
    """
    code = """
    import numpy as np

    class Model:
        def predict(self, inputs, parameters):
            return next(self.stream(inputs, parameters))

        def stream(self, inputs, parameters):
            words = inputs["text_input"][0].split()[: parameters.get("word_count", 99)]
            said = " ".join(f"{k}={v}" for k, v in sorted(parameters.items()))
            for word in words:
                yield {
                    "text_output": np.array([word], object),
                    "scores": np.array([[len(word), inputs["weights"].sum()]], np.float32),
                    "grid": inputs["grid"],
                    "said": np.array([f"{inputs['mood'][0]} {inputs['last'][0][0]} {said}"], object),
                }
    """
    return write_code(folder, manifest, code)


def labelled(folder: Path) -> Path:
    """Give four labelled scores, and a word."""
    manifest = """
    inputs: [{name: x, type: float32, shape: [4]}]
    outputs:
      - {name: scores, type: float32, shape: [4], labels: [cat, dog, owl, emu]}
      - {name: word, type: string}
    """
    code = """
    import numpy as np

    class Model:
        def predict(self, inputs):
            x = inputs["x"]
            return {"scores": x, "word": np.array(["a:b"] * len(x), object)}
    """
    return write_code(folder, manifest, code)


def foreign(folder: Path) -> Path:
    """Take and give tensors that callers know by names which no field can have; two of them trade names."""
    manifest = """
    inputs:
      - {name: numbers, wire: input.1, type: float32, shape: [2], maximum: 100}
      - {name: word, wire: "head/Word:0", type: string, default: none}
      - {name: left, wire: right, type: int32, default: 1}
      - {name: right, wire: left, type: int32, default: 2}
    outputs:
      - {name: scores, wire: "Softmax Out", type: float32, shape: [2], labels: [no, yes]}
      - {name: said, wire: said.1, type: string}
      - {name: plain, type: int32}
    """
    code = """
    import numpy as np

    class Model:
        def predict(self, inputs):
            said = [f"{w} {a} {b}" for w, a, b in zip(inputs["word"], inputs["left"], inputs["right"])]
            return {"scores": inputs["numbers"] * 2, "said": np.array(said, object), "plain": inputs["left"]}
    """
    return write_code(folder, manifest, code)


def whole(folder: Path) -> Path:
    """Take a table, a size and a title without a batch axis: a request is one run."""
    manifest = """
    batching: none
    inputs:
      - {name: table, wire: table.1, type: float32, shape: [-1, 2], maximum: 100}
      - {name: scale, type: float32, default: 1}
      - {name: title, type: string, shape: [1], default: [none]}
    outputs:
      - {name: sums, wire: sums.1, type: float32, shape: [2], labels: [first, second]}
      - {name: count, type: int64}
      - {name: title, type: string, shape: [1]}
    """
    code = """
    import numpy as np

    class Model:
        def predict(self, inputs):
            table = inputs["table"]
            assert (table.ndim, inputs["scale"].shape, inputs["title"].shape) == (2, (), (1,))
            sums = table.sum(axis=0) * inputs["scale"]
            return {"sums": sums, "count": np.int64(len(table)), "title": inputs["title"]}
    """
    return write_code(folder, manifest, code)


def write_all(folder: Path) -> list[Path]:
    """Write every model; echo models are named echo-TYPE, the one that allows NaN is echo-anything."""
    made = [echo(folder / f"echo-{t.name}", t.name) for t in TYPES]
    made.append(echo(folder / "echo-anything", "float32", ", finite: false"))
    made.append(echo(folder / "echo-maybe", "string", ", nullable: true"))
    made.append(echo(folder / "echo-one", "bytes", shape="[1]"))
    makers = (pair, typed, greedy, moody, promises, patient, countdown, steps, flood, teller, labelled, foreign, whole)
    made += [make(folder / make.__name__) for make in makers]
    return [*made, write_score(folder / "score")]
