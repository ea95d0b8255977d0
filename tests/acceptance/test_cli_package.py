"""The commands that make and judge packages, run as people run them; what they say is part of the product."""

import json
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from limen import __version__
from tests.services.packages import write_code, write_countdown, write_iris, write_score, write_sum_graph
from tests.services.process import LIMEN, limen, refused


def said(*arguments: object, cwd: Path | None = None) -> str:
    """Run a command that must work quietly; return what it printed."""
    done = limen(*arguments, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_command_has_a_summary_that_is_not_cut():
    text = said("--help")
    listed = dict(re.findall(r"^  ([a-z]+) {2,}(.+)$", text.partition("Commands:")[2], re.MULTILINE))
    assert listed.keys() >= {"init", "check", "build", "inspect", "schema", "serve"}
    assert all(summary.endswith(".") and "..." not in summary for summary in listed.values())
    assert said("--version") == f"limen {__version__}\n"


def test_wrong_usage_ends_with_status_2():
    assert "No such command 'bild'" in refused("bild", status=2)
    assert "Missing argument 'PACKAGE'" in refused("check", status=2)
    assert "Missing option '--from'" in refused("init", "score", status=2)
    assert "Commands:" in refused(status=2) + limen().stdout


def test_check_shows_what_it_looked_at(tmp_path):
    write_score(tmp_path / "score")
    lines = said("check", "score", cwd=tmp_path).splitlines()
    assert [line.split()[:2] for line in lines[:7]] == [
        ["ok", name] for name in ("manifest", "files", "artifact", "examples", "batch", "latency", "documents")
    ]
    assert lines[0] == "  ok    manifest   score: 2 inputs, 1 output, 1 example"
    assert re.fullmatch(r"one row p50 \d+\.\d{3} ms, p95 \d+\.\d{3} ms, here", lines[5][19:])
    assert lines[7:] == ["", "score is fit to serve."]


def test_check_names_the_example_whose_answer_differs(tmp_path):
    write_score(tmp_path / "score", golden=3.0)
    done = limen("check", "score", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: score is not fit to serve\n")
    assert "  FAIL  examples   1 of 1 with an answer to compare\n" in done.stdout
    assert "          - golden: score: expected 3.0, got 2.0 (difference 1)\n" in done.stdout


def test_check_lists_every_mistake_of_a_manifest(tmp_path):
    (tmp_path / "model.yaml").write_text(
        "name: Bad Name\nbackend: onnx\ncolour: red\ninputs: [{name: a, type: floot}]\n"
    )
    done = limen("check", tmp_path)
    listed = [line.strip().split(":")[0] for line in done.stdout.splitlines() if line.startswith("          - ")]
    assert sorted(listed) == ["- artifact", "- colour", "- inputs[0].type", "- name", "- outputs"]
    assert "did you mean 'float64'?" in done.stdout
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path} is not fit to serve\n")


def test_check_runs_code_only_when_it_is_trusted(tmp_path):
    marker = tmp_path / "ran"
    manifest = "inputs: [{name: a, type: int32}]\noutputs: [{name: a, type: int32}]\n"
    code = (
        f"open({str(marker)!r}, 'w').close()\n\n\nclass Model:\n    def predict(self, inputs):\n        return inputs\n"
    )
    package = write_code(tmp_path / "code", manifest, code)
    told = refused("check", package)
    assert "is not fit to serve\nhint: Read the code first: it runs with all your permissions.\n" in told
    assert not marker.exists()
    assert "is fit to serve." in said("check", package, "--trust-code")
    assert marker.exists()


def test_check_of_a_streaming_model_passes(tmp_path):
    assert "is fit to serve." in said("check", write_countdown(tmp_path / "countdown"), "--trust-code")


def test_check_finds_outputs_the_contract_does_not_describe(tmp_path):
    manifest = "inputs: [{name: a, type: int32}]\noutputs: [{name: b, type: float32, maximum: 1}]\n"
    answers = {
        "the model gave no output b": "{'c': inputs['a']}",
        "b": "{'b': ['text'] * len(inputs['a'])}",
        "b[0]: must be ≤ 1": "{'b': inputs['a'].astype('float32') + 5}",
        "b[0]: must be a finite number": "{'b': inputs['a'] * np.float32('nan')}",
        "the model gave 2 rows of b for 1": "{'b': np.zeros(len(inputs['a']) + 1, 'float32')}",
    }
    for i, (problem, answer) in enumerate(answers.items()):
        code = f"import numpy as np\n\n\nclass Model:\n    def predict(self, inputs):\n        return {answer}\n"
        done = limen("check", write_code(tmp_path / f"m{i}", manifest, code), "--trust-code")
        assert done.returncode == 1
        assert problem in done.stdout


def test_build_names_the_archive_by_its_content_and_inspect_shows_it(tmp_path):
    write_score(tmp_path / "score")
    write_score(tmp_path / "again")
    path, size, digest = re.fullmatch(
        r"(dist/score-[0-9a-f]{12}\.limen)  (\S+ \w+)\nsha256 ([0-9a-f]{64})\n", said("build", "score", cwd=tmp_path)
    ).groups()
    assert Path(path).stem == f"score-{digest[:12]}"
    assert size.endswith("KiB")
    assert digest in said("build", "again", "-o", "elsewhere", cwd=tmp_path)
    assert (tmp_path / path).read_bytes() == next((tmp_path / "elsewhere").iterdir()).read_bytes()

    folder, archive = (said("inspect", each, cwd=tmp_path) for each in ("score", path))
    assert folder == archive
    assert archive.splitlines() == [
        "score",
        "  title       Score",
        "  backend     onnx (model.onnx)",
        f"  digest      {digest}",
        "  inputs",
        "    amount                      float32       USD",
        "    age                         int32         years",
        "  outputs",
        "    score                       float32",
        "  batching",
        "    max_rows                    1024",
        "    max_request_rows            65536",
        "    max_wait_ms                 0",
        "    merge                       -",
        "  serving",
        "    replicas.min                1",
        "    replicas.max                1",
        "    replicas.concurrency        8",
        "    replicas.idle_s             300",
        "    queue.max_requests          1024",
        "    queue.max_wait_ms           1000",
        "    resources.memory_mb         -",
        "    resources.cpus              1",
        "    hang_after_s                10",
        "  files",
        f"    model.onnx                  {(tmp_path / 'score/model.onnx').stat().st_size} B",
        f"    model.yaml                  {(tmp_path / 'score/model.yaml').stat().st_size} B",
    ]
    shown = json.loads(said("inspect", "--json", path, cwd=tmp_path))
    assert (shown["kind"], shown["digest"]) == ("archive", digest)
    manifest = shown["manifest"]
    assert (manifest["serving"]["hang_after_s"], manifest["serving"]["replicas"]["max"]) == (10, 1)
    assert (manifest["contract"]["batching"]["max_rows"], manifest["fallback"]) == (1024, None)


def test_inspect_shows_how_a_model_is_run_and_what_stands_in_for_it(tmp_path):
    settings = "batching: {max_wait_ms: 2.5}\nserving: {replicas: {max: 3}, hang_after_s: 60}\n"
    fallback = "fallback: {outputs: {score: 0.5}}\n"
    manifest = write_score(tmp_path / "score") / "model.yaml"
    manifest.write_text(manifest.read_text() + settings + fallback)
    lines = said("inspect", "score", cwd=tmp_path).splitlines()
    assert {
        "    max_wait_ms                 2.5",
        "    replicas.max                3",
        "    hang_after_s                60",
    } < set(lines)
    assert lines[lines.index("  fallback") + 1] == "    outputs.score               0.5"
    manifest = json.loads(said("inspect", "score", "--json", cwd=tmp_path))["manifest"]
    assert manifest["fallback"] == {"outputs": {"score": 0.5}}
    assert manifest["serving"]["replicas"] == {"min": 1, "max": 3, "concurrency": 8, "idle_s": 300}


@pytest.mark.parametrize("command", ["check", "build", "inspect"])
def test_a_path_without_a_package_is_named(tmp_path, command):
    (tmp_path / "empty").mkdir()
    assert refused(command, "nothing", cwd=tmp_path).startswith("error: nothing found at nothing\nhint: ")
    assert refused(command, "empty", cwd=tmp_path).startswith(
        "error: empty is not a package: it has no model.yaml\nhint: "
    )


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_a_damaged_archive_is_refused(tmp_path, command):
    write_score(tmp_path / "score")
    archive = tmp_path / said("build", "score", cwd=tmp_path).split()[0]
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    assert limen(command, archive).returncode == 1


@pytest.mark.parametrize("command", ["build", "check"])
def test_a_stray_pickle_is_refused_and_what_to_do_is_said(tmp_path, command):
    package = write_score(tmp_path / "score")
    (package / "notes.txt").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    done = limen(command, package)
    assert done.returncode == 1
    assert "notes.txt: is a pickle" in done.stdout + done.stderr
    assert "remove it from the package" in done.stdout + done.stderr


def test_schema_prints_a_json_schema():
    schema = json.loads(said("schema"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"name", "backend", "inputs", "outputs"} <= schema["properties"].keys()


def test_init_makes_a_package_that_passes_its_check_as_it_is(tmp_path):
    iris = write_iris(tmp_path / "source") / "model.onnx"
    assert said("init", "flower", "--from", iris, cwd=tmp_path).splitlines() == [
        "flower/",
        "  model.onnx  onnx, loaded by the onnx backend",
        "  model.yaml  1 input, 1 output",
        "",
        "Next: complete the descriptions, limits and examples in flower/model.yaml, then",
        "  limen check flower",
        "  limen serve flower",
    ]
    assert "flower is fit to serve." in said("check", "flower", cwd=tmp_path)


@pytest.mark.slow
def test_init_of_an_estimator_takes_names_and_types_from_a_sample(tmp_path):
    from sklearn.linear_model import LogisticRegression
    from skops import io

    rows = np.random.default_rng(0).normal(size=(60, 2))
    model = LogisticRegression().fit(rows, rows[:, 0] > 0)
    io.dump(model, tmp_path / "model.skops")
    (tmp_path / "sample.csv").write_text("height,width\n" + "\n".join(f"{a:.3f},{b:.3f}" for a, b in rows) + "\n")
    said("init", "sizes", "--from", "model.skops", "--sample", "sample.csv", cwd=tmp_path)
    shown = said("inspect", "sizes", cwd=tmp_path)
    assert "backend     sklearn (model.skops)" in shown
    assert re.search(r"^    height +float", shown, re.MULTILINE)
    assert re.search(r"^    width +float", shown, re.MULTILINE)
    assert "sizes is fit to serve." in said("check", "sizes", cwd=tmp_path)


@pytest.mark.slow
def test_init_takes_true_and_false_of_a_sample_as_booleans(tmp_path):
    import pandas as pd
    from sklearn.linear_model import LinearRegression
    from skops import io

    rows = pd.DataFrame({"rooms": [1, 2, 3, 4], "garden": [True, False, True, False]})
    io.dump(LinearRegression().fit(rows, [1.0, 2.0, 3.5, 4.0]), tmp_path / "rent.skops")
    rows.to_csv(tmp_path / "rent.csv", index=False)
    said("init", "rent", "--from", "rent.skops", "--sample", "rent.csv", cwd=tmp_path)
    assert "- {name: garden, type: bool}  # guessed\n" in (tmp_path / "rent" / "model.yaml").read_text()
    assert "rent is fit to serve." in said("check", "rent", cwd=tmp_path)


def test_init_says_which_columns_a_sample_lacks(tmp_path):
    graph = write_sum_graph(tmp_path / "sum.onnx")
    (tmp_path / "sample.csv").write_text("a\n1\n")
    text = said("init", "sum", "--from", graph, "--sample", "sample.csv", cwd=tmp_path)
    assert "\nNotes:\n  - sample.csv lacks columns that the model takes: b\n" in text
    (tmp_path / "sample.csv").write_bytes(b"a,b\n1,\xe9\n")
    told = refused("init", "other", "--from", graph, "--sample", "sample.csv", cwd=tmp_path)
    assert told.startswith("error: sample.csv is not UTF-8 text")


def test_inspect_keeps_long_names_apart_from_their_types(tmp_path):
    names = ["n" * 28, "m" * 40]
    fields = ", ".join(f"{{name: {name}, type: float32, shape: [-1, 128, 128], unit: km}}" for name in names)
    package = write_code(tmp_path / "long", f"inputs: [{fields}]\noutputs: [{{name: a, type: int32}}]\n", "")
    shown = said("inspect", package)
    for name in names:
        assert re.search(rf"^    {name} +float32\[-1, 128, 128\] +km$", shown, re.MULTILINE)


def test_init_of_a_class_says_that_it_needs_trust(tmp_path):
    source = write_countdown(tmp_path / "source") / "model.py"
    text = said("init", "steps", "--from", source, cwd=tmp_path)
    assert "limen check steps --trust-code" in text
    assert "backend     python (model.py:Model)" in said("inspect", "steps", cwd=tmp_path)


def test_init_refuses_what_it_cannot_package(tmp_path):
    iris = write_iris(tmp_path / "iris") / "model.onnx"
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    cases = {
        (
            "init",
            "iris",
            "--from",
            iris,
        ): "error: iris already exists and is not empty; choose another folder with --dir\n",
        ("init", "Iris", "--from", iris): "error: name: must be 1 to 63 of a-z",
        ("init", "x", "--from", "no.onnx"): "error: no such file: no.onnx\n",
        (
            "init",
            "x",
            "--from",
            "notes.txt",
        ): "error: notes.txt is text, which no backend loads; Limen takes ONNX, skops",
        ("init", "x", "--from", "model.pkl"): "error: the artifact is unsafe: model.pkl: is a pickle",
    }
    for command, told in cases.items():
        assert refused(*command, cwd=tmp_path).startswith(told)
    assert not (tmp_path / "x").exists()


def test_output_that_nobody_reads_to_the_end_is_no_error(tmp_path):
    package = write_score(tmp_path / "score")
    process = subprocess.Popen([*LIMEN, "inspect", package], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), err) == (1, "")


def test_a_bug_is_told_in_a_sentence_and_shown_on_request(tmp_path):
    program = "import limen.packaging.manifest.schema as m, limen.cli as c; m.manifest_schema = lambda: 1 / 0; c.main()"
    command = [sys.executable, "-c", program, "schema"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        (
            "error: Limen failed unexpectedly (ZeroDivisionError)\n"
            "hint: Run it again with LIMEN_DEBUG=1 to see the traceback, and please report it.\n"
        ),
    )
    shown = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={"LIMEN_DEBUG": "1", "PATH": ""}
    )
    assert "ZeroDivisionError: division by zero" in shown.stderr


def test_init_with_a_sample_ends_with_the_answers_of_the_model(tmp_path):
    graph = write_sum_graph(tmp_path / "sum.onnx")
    (tmp_path / "sample.csv").write_text("id,a,b\n7,1,2\n8,,5\n")
    text = said("init", "sum", "--from", graph, "--sample", "sample.csv", cwd=tmp_path)
    assert "  model.yaml  2 inputs, 1 output, 1 example with the model's answers\n" in text
    assert "  - sample.csv: left out id, which the model does not take\n" in text
    assert "  - the model cannot answer when a is missing" in text
    manifest = (tmp_path / "sum" / "model.yaml").read_text()
    assert "    outputs: {total: 3.0}\n" in manifest
    assert "{name: a, type: float32}  # the model gives no answer when it is missing" in manifest


def test_check_records_what_a_class_answers_once_it_is_trusted(tmp_path):
    (tmp_path / "rent.py").write_text(
        "class Rent:\n    def predict(self, inputs):\n        return {'prediction': inputs['rooms'].astype('float32') * 500}\n"
    )
    (tmp_path / "rent.csv").write_text("zip,rooms\n01234,3\n98765,2\n")
    text = said("init", "rent", "--from", "rent.py", "--sample", "rent.csv", cwd=tmp_path)
    assert "  - zip: string: leading zeros, which a number would lose\n" in text
    assert "  - rooms: float64: whole numbers only in the sample; int64 refuses fractions\n" in text
    assert "  limen check rent --trust-code --record\n" in text
    text = said("check", "rent", "--trust-code", "--record", cwd=tmp_path)
    assert "0 of 2 with an answer to compare; --record saves the model's current answers\n" in text
    assert (
        "Recorded 2 answers. They are the model's current answers, not necessarily right ones: review them.\n" in text
    )
    assert "    outputs: {prediction: 1500.0}\n" in (tmp_path / "rent" / "model.yaml").read_text()
    assert "2 of 2 with an answer to compare\n" in said("check", "rent", "--trust-code", cwd=tmp_path)


def test_check_says_which_rows_of_real_data_would_be_refused(tmp_path):
    write_score(tmp_path / "score")
    (tmp_path / "rows.csv").write_text("customer,amount,age\nx,10,20\ny,,20\nz,10,20.5\n")
    done = limen("check", "score", "--data", "rows.csv", cwd=tmp_path)
    assert (
        "  FAIL  data       2 of 3 rows of rows.csv would be refused; not fields of the contract: customer\n"
        "          - amount: has no value (row 2); set nullable: true if the model handles missing values\n"
        "          - age: must be a whole number (row 3); use type: float64\n"
    ) in done.stdout
    assert done.returncode == 1
    assert done.stderr.startswith("error: score refuses rows of rows.csv\nhint: Edit model.yaml if the rows are right")
    (tmp_path / "rows.csv").write_text("amount,age\n10,20\n")
    assert "all 1 rows of rows.csv would be accepted\n" in said("check", "score", "--data", "rows.csv", cwd=tmp_path)


def test_init_of_a_class_that_does_not_parse_says_the_line(tmp_path):
    (tmp_path / "model.py").write_text("import os\nclass Model(\n")
    assert refused("init", "k", "--from", "model.py", cwd=tmp_path) == (
        "error: model.py is not valid Python: line 2: '(' was never closed\n"
    )


def test_init_of_a_torch_program_with_sample_inputs_names_the_command_that_takes_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/data/sample_inputs/model.pt", pickle.dumps([1]))
    told = refused("init", "net", "--from", "net.pt2", cwd=tmp_path)
    assert "`limen import net.pt2` leaves them out" in told


def test_check_says_which_files_to_remove_from_a_package(tmp_path):
    package = write_score(tmp_path / "score")
    (package / "model.pkl").write_bytes(pickle.dumps([1]))
    (package / "train.py").write_text("import sklearn\n")
    done = limen("check", "score", cwd=tmp_path)
    assert "model.pkl: is a pickle, which runs code when it is loaded; remove it from the package\n" in done.stdout
    assert "train.py: is code; only a package with `backend: python` may hold code" in done.stdout
    assert done.stdout.count("remove it from the package\n") == 2
    assert "hint" not in done.stderr


def test_build_writes_the_file_that_it_is_told_to(tmp_path):
    write_score(tmp_path / "score")
    assert said("build", "score", "-o", "out/score.limen", cwd=tmp_path).startswith("out/score.limen  ")
    assert (tmp_path / "out" / "score.limen").is_file()
    assert "out/score.limen is fit to serve." in said("check", "out/score.limen", cwd=tmp_path)


def test_publish_takes_code_once_it_is_trusted(tmp_path):
    fields = "inputs: [{name: a, type: int32}]\noutputs: [{name: a, type: int32}]\n"
    write_code(tmp_path / "echo", fields, "class Model:\n    def predict(self, inputs):\n        return inputs\n")
    told = refused("publish", "echo", cwd=tmp_path)
    assert "`code = true` under [trust] in the server's settings, or use `limen publish --trust-code`" in told
    text = said("publish", "echo", "--trust-code", cwd=tmp_path)
    assert text.startswith("echo is version 1 ")
    assert "no example has an answer to compare; `limen check --record` saves answers\n" in text


def test_init_like_a_known_package_takes_over_its_contract(tmp_path):
    graph = write_sum_graph(tmp_path / "sum.onnx")
    (tmp_path / "sample.csv").write_text("a,b\n1,2\n")
    said("init", "sum", "--from", graph, "--sample", "sample.csv", cwd=tmp_path)
    path = tmp_path / "sum" / "model.yaml"
    path.write_text(path.read_text().replace("{name: a, type: float32}", "{name: a, type: float32, unit: EUR}"))
    text = said("init", "sum", "--dir", "again", "--from", graph, "--like", "sum", cwd=tmp_path)
    assert "  model.yaml  2 inputs, 1 output, 1 example with the model's answers\n" in text
    assert "will notice" not in text
    assert "unit: EUR" in (tmp_path / "again" / "model.yaml").read_text()
    assert said("diff", "sum", "again", cwd=tmp_path) == "The contracts are the same.\n"
