"""Programs of torch.export, with the real PyTorch where there is one."""

import asyncio
import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from limen.authoring.check import check_package
from limen.authoring.importing import ImportOptions, import_model
from limen.contracts.errors import InvalidPackage, Reason
from limen.contracts.tensors import TensorSpec
from limen.packaging.archive.package import open_package
from limen.packaging.formats.sniff import scan_folder
from limen.packaging.manifest.decoder import read_manifest
from limen.runtime.backends import backend
from limen.runtime.placement.inline import InlinePlacement
from tests.conformance.importers.conftest import answers

SIZE = {"as_expr": {"expr_str": "Symbol('s77', positive=True, integer=True)", "hint": {"as_int": 2}}}


def program(path: Path, **members: bytes) -> Path:
    """Write an archive as torch.export does, of a program x [-1, 4] to y [-1]."""
    values = {"x": {"dtype": 7, "sizes": [SIZE, {"as_int": 4}]}, "y": {"dtype": 5, "sizes": [SIZE]}}
    signature = {
        "input_specs": [{"parameter": {"arg": {"name": "p_w"}}}, {"user_input": {"arg": {"as_tensor": {"name": "x"}}}}],
        "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "y"}}}}],
    }
    graph = {"graph_module": {"graph": {"tensor_values": values}, "signature": signature}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/models/model.json", json.dumps(graph))
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/weights/weight_0", np.arange(4, dtype=np.float32).tobytes())
        for name, data in members.items():
            archive.writestr(f"m/data/{name}", data)
    return path


def take(path: Path, tmp_path: Path):
    return import_model(str(path), ImportOptions(folder=tmp_path / "package"))


def test_b92_the_sample_inputs_are_left_out_and_the_rest_needs_trust(tmp_path):
    source = program(
        tmp_path / "m.pt2", **{"sample_inputs/model.pt": b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00}\x94."}
    )
    made = take(source, tmp_path)
    assert (made.created.format, made.created.needs_trust) == ("torch-export", True)
    with zipfile.ZipFile(tmp_path / "package" / "model.pt2") as archive:
        assert [name for name in archive.namelist() if "sample_inputs" in name] == []
    scan_folder(tmp_path / "package", read_manifest(tmp_path / "package"))
    report = asyncio.run(check_package(tmp_path / "package", tmp_path / "home", trust_code=False))
    assert report.refusal is Reason.UNTRUSTED_CODE


def test_what_a_program_declares_is_read_without_pytorch(tmp_path):
    found = backend("torch").describe(program(tmp_path / "m.pt2"))
    assert found.inputs == (TensorSpec("x", "float32", (-1, 4)),)
    assert found.outputs == (TensorSpec("y", "int64", (-1,)),)


@pytest.mark.parametrize("name", ["weights/weight_1", "constants/custom_obj_0"])
def test_b92_pickled_weights_and_objects_are_refused(tmp_path, name):
    source = program(tmp_path / "m.pt2", **{name: b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00}\x94."})
    with pytest.raises(InvalidPackage) as caught:
        take(source, tmp_path)
    assert caught.value.reason is Reason.UNSAFE_FORMAT
    assert not (tmp_path / "package").exists()


@pytest.mark.slow
def test_a_program_answers_as_pytorch_does(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed here")

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

        def forward(self, x):
            chances = torch.softmax(self.layers(x), -1)
            return chances, chances.argmax(-1)

    torch.manual_seed(0)
    model = Classifier().eval()
    axis = {"x": {0: torch.export.Dim("rows")}}
    torch.export.save(torch.export.export(model, (torch.zeros(2, 4),), dynamic_shapes=axis), tmp_path / "iris.pt2")
    take(tmp_path / "iris.pt2", tmp_path)
    report = asyncio.run(check_package(tmp_path / "package", tmp_path / "home", trust_code=True))
    assert report.ok, report.steps

    rows = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    found = answers(tmp_path / "package", [{"x": row} for row in rows.tolist()])
    with torch.no_grad():
        expected = model(torch.from_numpy(rows))
    chances, label = found.values()
    np.testing.assert_allclose(chances, expected[0].numpy(), rtol=1e-5)
    assert label.tolist() == expected[1].tolist()


def test_programs_are_read_one_at_a_time(tmp_path, monkeypatch):
    """PyTorch keeps what it reads in a global variable and fails when a second thread begins; a gateway loads models side by side."""
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        take(program(tmp_path / f"{number}.pt2"), tmp_path / str(number))
    inside, most = [], []

    def read(archive):
        inside.append(archive)
        for _ in range(100):
            os.sched_yield()
            most.append(len(inside))
        inside.remove(archive)
        return SimpleNamespace(module=lambda: None)

    fake = SimpleNamespace(
        set_num_threads=lambda count: None,
        export=SimpleNamespace(load=read),
        zeros=lambda shape, dtype: shape,
        save=lambda samples, file: file.write(b"samples"),
        float32="float32",
    )
    monkeypatch.setattr("limen.runtime.backends.torch.require", lambda module, install: fake)
    folders = [tmp_path / str(number) / "package" for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda folder: backend("torch").load(folder, read_manifest(folder)), folders))
    assert max(most) == 1


@pytest.mark.slow
async def test_several_programs_are_loaded_inline_at_once(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed here")
    packages = []
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        axis = {"input": {0: torch.export.Dim("rows")}}
        made = torch.export.export(torch.nn.Linear(4, 3).eval(), (torch.zeros(2, 4),), dynamic_shapes=axis)
        torch.export.save(made, tmp_path / f"{number}.pt2")
        take(tmp_path / f"{number}.pt2", tmp_path / str(number))
        packages.append(open_package(tmp_path / str(number) / "package", tmp_path / "home"))
    placement = InlinePlacement(trust_code=True)
    for sink in await asyncio.gather(*(placement.start(package, "1") for package in packages)):
        await sink.close()
