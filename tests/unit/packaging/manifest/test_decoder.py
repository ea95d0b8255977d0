"""The decoder reads good manifests and names every mistake of bad ones."""

import dataclasses
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.contract import Sensitivity
from limen.contracts.errors import InvalidPackage, Reason
from limen.contracts.serving import Queue, Replicas, Resources, Serving
from limen.packaging.manifest.decoder import decode_manifest, read_manifest
from limen.packaging.manifest.values import Fallback, OutputBinding

TESTDATA = Path(__file__).parent / "testdata"
GOOD = sorted(TESTDATA.glob("*.good.yaml"))
BAD = sorted(TESTDATA.glob("*.bad.yaml"))
MINIMAL = """
name: m
backend: onnx
artifact: m.onnx
inputs: [{name: x, type: float32}]
outputs: [{name: y, type: float32}]
"""


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@dataclasses.dataclass
class Files:
    """The files of a package, in memory."""

    contents: dict[str, bytes]

    def has(self, path: str) -> bool:
        return path in self.contents

    def read(self, path: str, limit: int) -> bytes:
        return self.contents[path][:limit]


def mistakes(text: str | bytes, files: Files | None = None) -> list[str]:
    with pytest.raises(InvalidPackage) as caught:
        decode_manifest(text, files=files)
    return [str(v) for v in caught.value.violations]


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.name)
def test_good_manifests_are_read(path):
    manifest = decode_manifest(path.read_bytes())
    assert manifest.contract.inputs
    assert manifest.contract.outputs


def test_the_major_is_1_unless_it_is_given():
    assert decode_manifest(MINIMAL).contract.major == 1
    assert decode_manifest(MINIMAL + "major: 3").contract.major == 3


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.name)
def test_bad_manifests_give_exactly_the_expected_messages(path):
    """Each bad file begins with the messages it must give, all of them and in order."""
    text = path.read_text()
    expected = [line.removeprefix("# expect: ") for line in text.splitlines() if line.startswith("# expect: ")]
    assert expected == mistakes(text)


def test_there_are_enough_bad_manifests():
    assert len(BAD) >= 30


def test_every_part_arrives_in_the_manifest():
    manifest = decode_manifest((TESTDATA / "credit.good.yaml").read_text())
    contract = manifest.contract
    amount, rate, lines, _, grade, zip_code = contract.inputs
    assert (contract.name, contract.owner, contract.tags) == ("credit", "risk@example.org", ("credit", "tabular"))
    assert (amount.unit, amount.minimum, amount.maximum, amount.examples) == ("USD", 500, 4e4, (1000, 2500.5))
    assert (rate.nullable, rate.default, rate.is_required) == (True, None, False)
    assert (lines.number, lines.default, lines.is_required) == (3, 0, False)
    assert (grade.enum, grade.sensitivity) == (("A", "B", "C", "no", "off", "007"), Sensitivity.PERSONAL)
    assert (zip_code.pattern, zip_code.min_length) == ("^[0-9]{3}xx$", 5)
    assert contract.outputs[2].labels == ("accept", "refer", "decline")
    assert manifest.bind.inputs == {
        "numeric": ("loan_amount", "interest_rate", "open_lines", "is_home_owner"),
        "grade:0": "grade",
    }
    assert manifest.bind.outputs == {
        "default_probability": OutputBinding(tensor="probabilities", column=1),
        "decision": OutputBinding(tensor="probabilities", argmax=True),
        "scores": OutputBinding(tensor="probabilities"),
    }
    assert (contract.slo.p95_ms, contract.slo.deadline_ms) == (20, 100)
    assert (contract.batching.max_rows, contract.batching.max_request_rows) == (256, 10000)
    assert (contract.tolerance.absolute, contract.tolerance.relative) == (1e-6, 0.0)
    assert [e.name for e in contract.examples] == ["a safe one", ""]
    assert manifest.reference == "data/reference.parquet"


def test_what_is_said_about_serving_arrives_in_the_manifest():
    manifest = decode_manifest((TESTDATA / "serving.good.yaml").read_text())
    assert manifest.serving == Serving(
        replicas=Replicas(min=0, max=256, concurrency=0.5, idle_s=1),
        queue=Queue(max_requests=1_000_000, max_wait_ms=0),
        resources=Resources(memory_mb=64, cpus=1024),
        hang_after_s=0.1,
    )
    assert manifest.contract.batching.max_wait_ms == 2.5
    assert manifest.fallback == Fallback(outputs={"y": 0.5, "word": "refer", "scores": None, "raw": "AP8="})


@pytest.mark.parametrize(("name", "version"), [("fallback_version", "7"), ("fallback_version_text", "12")])
def test_a_fallback_may_be_another_version_written_as_number_or_text(name, version):
    assert decode_manifest((TESTDATA / f"{name}.good.yaml").read_text()).fallback == Fallback(version=version)


def test_a_python_package_may_name_the_variables_that_its_code_reads():
    text = MINIMAL.replace("backend: onnx", "backend: python").replace("artifact: m.onnx", "artifact: m.py:M")
    assert decode_manifest(text + "environment: [RISK_TABLE]\n").environment == ("RISK_TABLE",)


def test_a_manifest_that_says_nothing_about_serving_is_as_it_was():
    manifest = decode_manifest(MINIMAL)
    assert (manifest.serving, manifest.fallback) == (Serving(), None)
    assert set(msgspec.to_builtins(manifest.contract)) == {"name", "inputs", "outputs"}


@given(st.sampled_from(["serving", "fallback", "batching"]), JSON_VALUES)
def test_any_values_of_the_serving_keys_are_read_or_refused(key, value):
    """Whatever they hold, the answer is a manifest or InvalidPackage."""
    document = msgspec.yaml.decode(MINIMAL) | {key: value}
    violations = None
    try:
        decode_manifest(msgspec.json.encode(document))
    except InvalidPackage as exc:
        violations = exc.violations
    assert violations is None or violations


def test_a_python_artifact_is_a_file_and_a_class():
    manifest = decode_manifest((TESTDATA / "code.good.yaml").read_text())
    assert (manifest.artifact, manifest.artifact_path) == ("src/model.py:FileType", "src/model.py")
    assert manifest.needs_trust


def test_b100_markup_and_secret_references_stay_inert_text():
    manifest = decode_manifest((TESTDATA / "code.good.yaml").read_text())
    assert manifest.contract.title == "<b>${HOME}</b> {{ secrets }}"


def test_the_message_counts_and_shows_the_first_mistakes():
    with pytest.raises(InvalidPackage) as caught:
        decode_manifest("title: x\n", source="a/model.yaml")
    assert caught.value.message.startswith("a/model.yaml has 5 mistakes: name: is required")
    assert caught.value.message.endswith("(and 2 more)")
    assert caught.value.reason is Reason.INVALID_PACKAGE


def test_thousands_of_mistakes_are_cut_off():
    found = mistakes(MINIMAL + "".join(f"k{i}: 1\n" for i in range(5000)))
    assert len(found) == 101
    assert found[-1] == "more than 100 mistakes; the rest are not listed"


def test_b100_a_tag_runs_nothing(tmp_path):
    marker = tmp_path / "ran"
    found = mistakes(
        MINIMAL + f"title: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{marker}']]"
    )
    assert found == ["title: tags (!) are not allowed; write the plain value"]
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\xff\xfe", "must be text in UTF-8 (byte 0 is not)"),
        (b"name: \x07", "is not valid YAML: it holds a character that YAML does not allow"),
        (b"x" * (1 << 20) + b"x", "is larger than 1048576 bytes"),
        (b"[" * 100_000, "is nested more than 64 levels deep"),
        (b"{a: " * 100_000, "is nested more than 64 levels deep"),
        (b"a: [" + b"1," * 250_000 + b"]", "is one of more than 200000 values"),
        (b"? [a]\n: b\n", "a key must be plain text"),
        (b"%YAML 3.0\n---\na: b\n", "is not valid YAML"),
    ],
    ids=["utf-16", "control", "large", "deep lists", "deep mappings", "many", "complex key", "version"],
)
def test_b100_hostile_texts_are_refused_quickly(text, expected):
    assert any(expected in mistake for mistake in mistakes(text))


def test_a_byte_order_mark_is_no_mistake():
    assert decode_manifest(b"\xef\xbb\xbf" + MINIMAL.encode()).contract.name == "m"


def test_unquoted_words_follow_yaml_1_2():
    text = MINIMAL.replace(
        "{name: x, type: float32}", "{name: x, type: string, enum: [no, OFF, y, 010, 1_000, 12:30, 2024-01-31, 0x10]}"
    )
    assert decode_manifest(text).contract.inputs[0].enum == (
        "no",
        "OFF",
        "y",
        "010",
        "1_000",
        "12:30",
        "2024-01-31",
        "0x10",
    )


def test_a_number_with_too_many_digits_is_text_and_not_a_crash():
    found = mistakes(MINIMAL + "slo: {p95_ms: " + "9" * 5000 + "}")
    assert found[0].startswith("slo.p95_ms: must be a finite number above 0, not '999")
    found = mistakes(MINIMAL + "slo: {p95_ms: " + "9" * 400 + "}")
    assert found[0].startswith("slo.p95_ms: must be a finite number above 0, not 999")


def test_shown_values_are_short_and_on_one_line():
    (found,) = mistakes(MINIMAL.replace("name: m", 'name: "' + "a\\nb" * 500 + '"'))
    assert len(found) < 200
    assert "\n" not in found


class TestFilesOfThePackage:
    def test_files_that_are_missing_are_named(self):
        text = MINIMAL + "reference: data.csv\nexamples: golden.json\n"
        assert mistakes(text, Files({})) == [
            "artifact: no file 'm.onnx' in the package",
            "reference: no file 'data.csv' in the package",
            "examples: no file 'golden.json' in the package",
        ]

    def test_examples_are_read_from_a_file(self):
        files = Files({"m.onnx": b"", "golden.json": b'[{"name": "one", "inputs": {"x": 1.5}, "outputs": {"y": 2}}]'})
        (example,) = decode_manifest(MINIMAL + "examples: golden.json\n", files=files).contract.examples
        assert msgspec.to_builtins(example) == {"name": "one", "inputs": {"x": 1.5}, "outputs": {"y": 2}}

    def test_mistakes_in_examples_name_the_file(self):
        files = Files(
            {"m.onnx": b"", "e/golden.yaml": b"- inputs: {x: a}\n- outputs: {}\n- inputs: {x: 1}\n  inputs: {x: 2}\n"}
        )
        assert mistakes(MINIMAL + "examples: e/golden.yaml\n", files) == [
            "e/golden.yaml[2].inputs: this key is repeated",
        ]
        files.contents["e/golden.yaml"] = b"- inputs: {x: a}\n- outputs: {}\n"
        assert mistakes(MINIMAL + "examples: e/golden.yaml\n", files) == [
            "e/golden.yaml[1].inputs: is required: one record of the inputs",
            "e/golden.yaml[0].inputs.x: must be a number, not 'a'",
        ]

    def test_a_file_of_examples_may_not_be_endless(self):
        files = Files({"m.onnx": b"", "golden.json": b"[" + b" " * (5 << 20)})
        assert mistakes(MINIMAL + "examples: golden.json\n", files) == ["golden.json: is larger than 4194304 bytes"]

    def test_read_manifest_reads_a_folder(self, tmp_path):
        (tmp_path / "model.yaml").write_text(MINIMAL)
        (tmp_path / "m.onnx").write_bytes(b"x")
        assert read_manifest(tmp_path).contract.name == "m"

    def test_a_folder_without_a_manifest_is_no_package(self, tmp_path):
        with pytest.raises(InvalidPackage, match=r"this is not a package: model\.yaml: no such file"):
            read_manifest(tmp_path)

    def test_a_file_that_leads_out_of_the_folder_is_refused(self, tmp_path):
        folder = tmp_path / "package"
        folder.mkdir()
        (tmp_path / "secret").write_bytes(b"x")
        (folder / "m.onnx").symlink_to(tmp_path / "secret")
        (folder / "model.yaml").write_text(MINIMAL)
        with pytest.raises(InvalidPackage, match=r"m\.onnx: leads out of the package"):
            read_manifest(folder)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(InvalidPackage):
        decode_manifest(data)


SNIPPETS = st.sampled_from(
    [
        "name",
        "x",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\n",
        "  ",
        "&a ",
        "*a",
        "!!str ",
        "'",
        '"',
        "type",
        "inputs",
        "null",
        "1e9",
        "|",
        "<<",
        "#",
        "true",
    ]
)


@given(st.lists(SNIPPETS, max_size=40).map("".join))
def test_any_yaml_is_read_or_refused(text):
    """Pieces of YAML in any order never cause another error than InvalidPackage."""
    with pytest.raises(InvalidPackage):
        decode_manifest(text)


KEYS = [
    "minimum",
    "maximum",
    "enum",
    "shape",
    "pattern",
    "default",
    "examples",
    "labels",
    "nullable",
    "type",
    "number",
    "finite",
]


@given(
    st.dictionaries(st.sampled_from(KEYS), JSON_VALUES, max_size=4),
    st.sampled_from(["float16", "int8", "string", "bytes", "bool"]),
)
def test_any_values_of_a_field_are_read_or_refused(extra, element):
    """Whatever a field's keys hold, the answer is a manifest or InvalidPackage."""
    field = {"name": "x", "type": element} | extra
    document = {
        "name": "m",
        "backend": "onnx",
        "artifact": "m.onnx",
        "inputs": [field],
        "outputs": [{"name": "y", "type": "int8"}],
    }
    violations = None
    try:
        manifest = decode_manifest(msgspec.json.encode(document))
    except InvalidPackage as exc:
        violations = exc.violations
    else:
        assert manifest.contract.inputs[0].name == "x"
    assert violations is None or violations
