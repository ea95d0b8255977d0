"""What every backend promises, shown on a real model of its own kind."""

import pickle
import random
import shutil
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from limen.contracts.errors import InvalidPackage, ModelFailed, Reason
from limen.runtime.backends import backend
from limen.runtime.binding.binding import compile_binding
from tests.conformance.backends.conftest import COLUMNS, X, columns


def altered(case, tmp_path, change):
    """Return the case with its artifact's bytes changed, in a folder of its own."""
    folder = tmp_path / "package"
    shutil.copytree(case.folder, folder)
    copy = replace(case, folder=folder)
    copy.artifact.write_bytes(change(case.artifact.read_bytes()))
    return copy


def refusal(case) -> InvalidPackage:
    with pytest.raises(InvalidPackage) as caught:
        case.load()
    return caught.value


def still_answers(case) -> bool:
    model = case.load()
    try:
        return case.answer(model, X[:1])["species"].tolist() == ["setosa"]
    finally:
        model.close()


@pytest.mark.parametrize("rows", [1, 2, 150])
def test_it_gives_the_numbers_the_library_gives(case, model, rows):
    sample = X[::-1][:rows]
    answer, expected = case.answer(model, sample), case.direct(sample)
    assert answer["species"].tolist() == expected["species"].tolist()
    np.testing.assert_allclose(answer["chances"], expected["chances"], rtol=1e-5, atol=1e-6)


def test_it_declares_the_tensors_of_the_artifact(case, model):
    if case.signature is None:
        assert (model.signature.inputs, model.signature.outputs) == ((), ())
    else:
        assert model.signature == case.signature


def test_describing_a_file_gives_the_same_signature_as_loading_it(case, model):
    described = backend(case.manifest.backend).describe(case.artifact)
    if case.is_typed:
        assert described == model.signature
    else:
        assert described.outputs
        assert {t.name for t in described.inputs} <= {t.name for t in model.signature.inputs}
        assert [t.name for t in described.outputs] == [t.name for t in model.signature.outputs]


def test_only_the_outputs_the_manifest_needs_are_given(case, model):
    binding = compile_binding(case.manifest, model.signature)
    raw = model.predict(binding.pack(columns(X[:2])), {})
    assert tuple(raw) == binding.wanted


def test_a_stream_of_a_model_that_cannot_stream_is_its_one_answer(case, model):
    packed = compile_binding(case.manifest, model.signature).pack(columns(X[:2]))
    assert not model.can_stream
    [part] = model.stream(packed, {})
    for name, array in model.predict(packed, {}).items():
        np.testing.assert_array_equal(part[name], array)


def test_a_failure_is_model_failed_and_its_text_stays_in_the_cause(case, model):
    with pytest.raises(ModelFailed) as caught:
        model.predict({"nothing": np.zeros(1)}, {})
    assert str(caught.value) == "The model failed on this request."
    assert caught.value.__cause__ is not None


def test_a_matrix_of_another_width_is_model_failed_and_the_next_request_is_answered(case, model):
    with pytest.raises(ModelFailed):
        model.predict({"X": np.zeros((1, 3), np.float32)}, {})
    assert case.answer(model, X[:1])["species"].tolist() == ["setosa"]


def test_a_missing_file_is_refused(case, tmp_path):
    shutil.copytree(case.folder, tmp_path / "package")
    gone = replace(case, folder=tmp_path / "package")
    gone.artifact.unlink()
    assert "no such file" in refusal(gone).message


def test_a_file_outside_the_package_is_refused(case):
    outside = msgspec.structs.replace(case.manifest, artifact=f"../{case.manifest.artifact}")
    assert refusal(replace(case, manifest=outside)).reason is Reason.UNSAFE_ARCHIVE


def test_b92_a_pickle_under_the_artifacts_name_is_refused(case, tmp_path):
    disguised = altered(case, tmp_path, lambda _: pickle.dumps({"a": [1, 2, 3]}))
    assert refusal(disguised).reason is Reason.UNSAFE_FORMAT
    assert still_answers(case)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"hello\n", b"{}", b"PK\x05\x06" + bytes(18)])
def test_a_file_of_another_format_is_refused(file_case, tmp_path, content):
    assert refusal(altered(file_case, tmp_path, lambda _: content)).reason in (
        Reason.INVALID_PACKAGE,
        Reason.UNSAFE_FORMAT,
    )
    assert still_answers(file_case)


@pytest.mark.parametrize("part", [0.05, 0.25, 0.5])
def test_b95_a_truncated_file_is_refused(file_case, tmp_path, part):
    refusal(altered(file_case, tmp_path, lambda data: data[: int(len(data) * part)]))
    assert still_answers(file_case)


def test_b95_random_damage_is_refused_or_harmless(file_case, tmp_path):
    """Bytes are overwritten at random; the process must survive every load and every answer."""
    chance = random.Random(20)
    original = file_case.artifact.read_bytes()
    folder = tmp_path / "package"
    shutil.copytree(file_case.folder, folder)
    damaged = replace(file_case, folder=folder)
    refused = 0
    for _ in range(40):
        data = bytearray(original)
        for _ in range(chance.choice([1, 2, 8])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        damaged.artifact.write_bytes(data)
        try:
            model = damaged.load()
            model.predict(compile_binding(damaged.manifest, model.signature).pack(columns(X[:3])), {})
        except (InvalidPackage, ModelFailed):
            refused += 1
    assert refused > 0
    assert still_answers(file_case)


def test_a_column_too_few_is_refused_when_the_version_is_bound(file_case):
    has_matrix = "X" in file_case.manifest.bind.inputs
    short = msgspec.structs.replace(
        file_case.manifest,
        contract=msgspec.structs.replace(file_case.manifest.contract, inputs=file_case.manifest.contract.inputs[:3]),
        bind=msgspec.structs.replace(file_case.manifest.bind, inputs={"X": COLUMNS[:3]} if has_matrix else {}),
    )
    model = file_case.load()
    with pytest.raises(InvalidPackage) as caught:
        compile_binding(short, model.signature)
    place = "bind.inputs.X" if has_matrix else "bind.inputs.petal_width"
    assert place in [v.path for v in caught.value.violations]


def test_the_missing_library_is_named_with_what_to_install(file_case, monkeypatch):
    library = {"onnx": "onnxruntime", "sklearn": "skops.io", "xgboost": "xgboost", "lightgbm": "lightgbm"}
    library["rules"] = "zen"
    kind = file_case.manifest.backend
    monkeypatch.setitem(__import__("sys").modules, library[kind], None)
    error = refusal(file_case)
    assert error.reason is Reason.MISSING_DEPENDENCY
    assert error.message.endswith(f"install limen[{kind}]")


def test_nothing_is_printed(file_case, tmp_path, capfd):
    """Native libraries write to the process's own streams; what they have to say is raised."""
    model = file_case.load()
    file_case.answer(model, X[:1])
    with pytest.raises(ModelFailed):
        model.predict({"X": np.zeros((1, 3), np.float32)}, {})
    refusal(altered(file_case, tmp_path, lambda data: data[: len(data) // 2]))
    assert capfd.readouterr() == ("", "")


def test_closing_twice_is_allowed(case):
    model = case.load()
    model.close()
    model.close()
