"""What every backend promises, as a test suite for backends that others bring. Needs pytest.

Subclass `FileBackendSuite`, or `BackendSuite` for artifacts without a format of their own, in a test module, and define a
fixture `case` that returns a `BackendCase`:

    class TestMyBackend(FileBackendSuite):
        @pytest.fixture
        def case(self, tmp_path): ...
"""

from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from limen.contracts.errors import InvalidPackage, ModelFailed, Reason
from limen.contracts.tensors import Array
from limen.packaging.manifest.values import Manifest
from limen.runtime.backends import backend
from limen.runtime.binding.binding import compile_binding
from limen.runtime.predictor import LoadedModel

DAMAGES = 40
"""Damaged files that are tried."""


@dataclass(frozen=True)
class BackendCase:
    """A package folder with a real model, and what that model answers without Limen."""

    folder: Path
    """It holds the artifact; a `model.yaml` is not read."""
    manifest: Manifest
    sample: Callable[[int], dict[str, Array]]
    """Returns so many rows of the contract's inputs, read-only, as they come from the network."""
    expected: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    """Returns the contract's outputs for such inputs, computed by the model's own library."""
    is_typed: bool = True
    """Whether the file says which types its tensors have."""

    @property
    def artifact(self) -> Path:
        """The artifact's file."""
        return self.folder / self.manifest.artifact_path

    def load(self) -> LoadedModel:
        """Load the package."""
        return backend(self.manifest.backend).load(self.folder, self.manifest)

    def answer(self, model: LoadedModel, inputs: dict[str, Array], rows: int) -> dict[str, Array]:
        """Ask as placements do: pack, predict, unpack."""
        binding = compile_binding(self.manifest, model.signature)
        return binding.unpack(model.predict(binding.pack(inputs), {}), rows)

    def altered(self, folder: Path, change: Callable[[bytes], bytes]) -> BackendCase:
        """Return the case in a new folder with the artifact's bytes changed."""
        shutil.copytree(self.folder, folder)
        copy = replace(self, folder=folder)
        copy.artifact.write_bytes(change(self.artifact.read_bytes()))
        return copy


class BackendSuite:
    """The promises. Each test is given `case`, and leaves a backend that still answers."""

    @pytest.mark.parametrize("rows", [1, 2, 150])
    def test_it_gives_the_numbers_that_the_library_gives(self, case: BackendCase, rows: int) -> None:
        """Rows go in and come out in order, for one row and for many."""
        self.check_answer(case, rows)

    def test_describing_a_file_names_the_tensors_that_loading_it_gives(self, case: BackendCase) -> None:
        """`describe` and `load` agree, as far as the file itself says."""
        model = case.load()
        described = backend(case.manifest.backend).describe(case.artifact)
        if case.is_typed:
            assert described == model.signature
        else:
            assert {t.name for t in described.inputs} <= {t.name for t in model.signature.inputs}
            assert [t.name for t in described.outputs] == [t.name for t in model.signature.outputs]
        model.close()

    def test_only_the_outputs_that_the_manifest_needs_are_given(self, case: BackendCase) -> None:
        """Nothing is computed that is not asked for."""
        model = case.load()
        binding = compile_binding(case.manifest, model.signature)
        assert tuple(model.predict(binding.pack(case.sample(2)), {})) == binding.wanted
        model.close()

    def test_a_model_that_cannot_stream_streams_its_one_answer(self, case: BackendCase) -> None:
        """`stream` exists on every model."""
        model = case.load()
        packed = compile_binding(case.manifest, model.signature).pack(case.sample(2))
        if not model.can_stream:
            [part] = model.stream(packed, {})
            for name, array in model.predict(packed, {}).items():
                np.testing.assert_array_equal(part[name], array)
        model.close()

    def test_a_failure_is_model_failed_and_its_text_stays_in_the_cause(self, case: BackendCase) -> None:
        """Foreign exceptions do not leave a backend; callers never read a library's own words."""
        model = case.load()
        with pytest.raises(ModelFailed) as caught:
            model.predict({"nothing": np.zeros(1)}, {})
        assert str(caught.value) == "The model failed on this request."
        assert caught.value.__cause__ is not None
        model.close()
        self.check_answer(case)

    def test_a_missing_file_is_refused(self, case: BackendCase, tmp_path: Path) -> None:
        """The error says that there is no such file."""
        gone = case.altered(tmp_path / "gone", lambda data: data)
        gone.artifact.unlink()
        with pytest.raises(InvalidPackage, match="no such file"):
            gone.load()

    def test_a_file_outside_the_package_is_refused(self, case: BackendCase) -> None:
        """`..` does not lead out of the package."""
        outside = msgspec.structs.replace(case.manifest, artifact=f"../{case.manifest.artifact}")
        assert _refusal(replace(case, manifest=outside)).reason is Reason.UNSAFE_ARCHIVE

    def test_a_pickle_under_the_name_of_the_artifact_is_refused(self, case: BackendCase, tmp_path: Path) -> None:
        """What a file is called does not decide what it is."""
        disguised = case.altered(tmp_path / "disguised", lambda _: pickle.dumps({"a": [1, 2, 3]}))
        assert _refusal(disguised).reason is Reason.UNSAFE_FORMAT
        self.check_answer(case)

    def test_nothing_is_printed(self, case: BackendCase, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Native libraries write to the streams of the process; what they have to say is raised instead."""
        model = case.load()
        case.answer(model, case.sample(1), 1)
        with pytest.raises(ModelFailed):
            model.predict({"nothing": np.zeros(1)}, {})
        _refusal(case.altered(tmp_path / "pickle", lambda _: pickle.dumps({})))
        model.close()
        assert capfd.readouterr() == ("", "")

    def test_closing_twice_is_allowed(self, case: BackendCase) -> None:
        """The second time does nothing."""
        model = case.load()
        model.close()
        model.close()

    def check_answer(self, case: BackendCase, rows: int = 1) -> None:
        """Load the case and compare its answer to the library's: equal texts, numbers within 1e-5 relative."""
        model = case.load()
        inputs = case.sample(rows)
        answer, expected = case.answer(model, inputs, rows), case.expected(inputs)
        model.close()
        assert set(answer) == set(expected)
        for name, array in expected.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(answer[name], array, rtol=1e-5, atol=1e-6)
            else:
                assert answer[name].tolist() == array.tolist()


class FileBackendSuite(BackendSuite):
    """The promises of a backend whose artifacts have a file format that damage can break."""

    @pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"hello\n", b"{}", b"PK\x05\x06" + bytes(18)])
    def test_a_file_of_another_format_is_refused(self, case: BackendCase, tmp_path: Path, content: bytes) -> None:
        """Empty, zero, text, JSON and zip files."""
        reason = _refusal(case.altered(tmp_path / "other", lambda _: content)).reason
        assert reason in (Reason.INVALID_PACKAGE, Reason.UNSAFE_FORMAT)
        self.check_answer(case)

    @pytest.mark.parametrize("part", [0.05, 0.25, 0.5])
    def test_a_truncated_file_is_refused(self, case: BackendCase, tmp_path: Path, part: float) -> None:
        """Also when the library alone would load it."""
        _refusal(case.altered(tmp_path / "cut", lambda data: data[: int(len(data) * part)]))
        self.check_answer(case)

    def test_random_damage_is_refused_or_harmless(self, case: BackendCase, tmp_path: Path) -> None:
        """The process survives every load and every answer."""
        chance, refused = random.Random(20), 0
        damaged = case.altered(tmp_path / "damaged", lambda data: data)
        original = case.artifact.read_bytes()
        for _ in range(DAMAGES):
            data = bytearray(original)
            for _ in range(chance.choice([1, 2, 8])):
                data[chance.randrange(len(data))] = chance.randrange(256)
            damaged.artifact.write_bytes(data)
            try:
                model = damaged.load()
                model.predict(compile_binding(damaged.manifest, model.signature).pack(case.sample(3)), {})
            except (InvalidPackage, ModelFailed):
                refused += 1
        assert refused > 0
        self.check_answer(case)


def _refusal(case: BackendCase) -> InvalidPackage:
    with pytest.raises(InvalidPackage) as caught:
        case.load()
    return caught.value
