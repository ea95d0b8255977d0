"""Formats are told apart by content, and a package that holds something unsafe is refused as a whole."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import sys
import tarfile
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path

import cloudpickle  # type: ignore[import-untyped]  # published without types
import joblib  # type: ignore[import-untyped]  # published without types
import msgspec
import numpy as np
import pytest

from limen.contracts.errors import InvalidPackage, Reason
from limen.packaging.formats.known import UNSAFE, Format
from limen.packaging.formats.sniff import ensure_format, examine, scan_folder, sniff
from limen.packaging.manifest.decoder import decode_manifest
from tests.unit.packaging.formats.test_pickles import Attack

PICKLE = pickle.dumps(Attack())
ONNX_RUNTIME = find_spec("onnxruntime")
assert ONNX_RUNTIME is not None
assert ONNX_RUNTIME.origin is not None
ONNX = Path(ONNX_RUNTIME.origin).with_name("datasets").joinpath("logreg_iris.onnx").read_bytes()
MANIFEST = (
    "name: m\nbackend: {}\nartifact: {}\ninputs: [{{name: x, type: float32}}]\noutputs: [{{name: y, type: float32}}]\n"
)


def npy(array):
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def npz(**arrays):
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def zipped(members, *, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def joblib_bytes(compress):
    out = io.BytesIO()
    joblib.dump({"a": np.arange(100.0)}, out, compress=compress)
    return out.getvalue()


def broken_checksum(data):
    """Change the checksums of a zip, in its local headers and in its directory."""
    data = bytearray(data)
    for mark, offset in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] ^= 0xFF
            at = data.find(mark, at + 4)
    return bytes(data)


def encrypted(data):
    data = bytearray(data)
    data[data.find(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


SKOPS = {"schema.json": b'{"__class__": "Pipeline", "__loader__": "ObjectNode"}', "1.npy": npy(np.arange(3.0))}
SAFETENSORS = msgspec.json.encode({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
PE = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(20)
GOOD = {
    "onnx": (ONNX, Format.ONNX),
    "skops": (zipped(SKOPS), Format.SKOPS),
    "xgboost json": (b'{"learner":{"attributes":{},"feature_names":[]},"version":[3,2,0]}', Format.XGBOOST_JSON),
    "xgboost json, version first": (b'{ "version": [2, 1, 0], "learner": {"attributes": {}}}', Format.XGBOOST_JSON),
    "xgboost ubj": (b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\x0aattributes{}}}", Format.XGBOOST_UBJ),
    "lightgbm": (b"tree\nversion=v4\nnum_class=1\n", Format.LIGHTGBM),
    "python": (b'"""A model."""\n\n# why\nfrom __future__ import annotations\n', Format.PYTHON),
    "python class": (b"class Model:\n    pass\n", Format.PYTHON),
    "script": (b"#!/bin/sh\nrm -r x\n", Format.SCRIPT),
    "safetensors": (struct.pack("<Q", len(SAFETENSORS)) + SAFETENSORS + bytes(4), Format.SAFETENSORS),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(100), Format.GGUF),
    "npy": (npy(np.arange(5)), Format.NUMPY),
    "npy of records": (npy(np.zeros(2, [("a", "f4"), ("b", "U3", (2,))])), Format.NUMPY),
    "npz": (npz(a=np.arange(5), b=np.array(["x"])), Format.NUMPY),
    "parquet": (b"PAR1" + bytes(50) + b"PAR1", Format.PARQUET),
    "csv": (b"age,amount\n1,2\n3,4\n", Format.CSV),
    "csv with semicolons": ("größe;preis\n1;2,5\n".encode(), Format.CSV),
    "json": (b'[{"inputs": {"x": 1}}]', Format.JSON),
    "yaml": (b"# a model\nname: m\n", Format.YAML),
    "text": (b"Some words, and more.\nA second line.\n", Format.TEXT),
    "markdown with code": (b"# Title\n\nText.\n\n```python\nimport os\n```\n", Format.TEXT),
    "utf-8 cut at the end of the look": (b"x" * 65535 + "é".encode() + b" word" * 10, Format.TEXT),
    "weights": (np.random.default_rng(1).normal(size=5000).astype("f4").tobytes(), Format.BINARY),
    "whole numbers": (np.arange(4).tobytes(), Format.BINARY),
    "zeros": (bytes(100_000), Format.BINARY),
    "empty": (b"", Format.EMPTY),
    "MZ as text": (b"MZ is not always a program\n", Format.TEXT),
    "a Hugging Face configuration": (b'{"architectures": ["BertModel"], "model_type": "bert"}', Format.TRANSFORMERS),
    "a vocabulary with these words": (b'{"vocab": {"architectures": 1, "model_type": 2}}', Format.JSON),
    "json that is none": (b"{ not json", Format.TEXT),
}
BAD = {
    "pickle": (PICKLE, Format.PICKLE),
    "pickle protocol 0": (pickle.dumps(Attack(), 0), Format.PICKLE),
    "cloudpickle": (cloudpickle.dumps(lambda x: x), Format.PICKLE),
    "joblib": (joblib_bytes(0), Format.PICKLE),
    "joblib zlib": (joblib_bytes(("zlib", 3)), Format.PICKLE),
    "joblib gzip": (joblib_bytes(("gzip", 3)), Format.PICKLE),
    "joblib bz2": (joblib_bytes(("bz2", 3)), Format.PICKLE),
    "joblib xz": (joblib_bytes(("xz", 3)), Format.PICKLE),
    "joblib lzma": (joblib_bytes(("lzma", 3)), Format.PICKLE),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(20), Format.COMPRESSED),
    "lz4": (b"\x04\x22\x4d\x18" + bytes(20), Format.COMPRESSED),
    "gzipped csv": (gzip.compress(b"a,b\n1,2\n"), Format.COMPRESSED),
    "bz2": (bz2.compress(b"words"), Format.COMPRESSED),
    "xz": (lzma.compress(b"words"), Format.COMPRESSED),
    "zlib": (zlib.compress(b"words" * 10), Format.COMPRESSED),
    "broken gzip": (b"\x1f\x8b\x08\x00rubbish", Format.COMPRESSED),
    "torch": (
        zipped({"archive/data.pkl": PICKLE, "archive/data/0": bytes(8)}, method=zipfile.ZIP_STORED),
        Format.TORCH,
    ),
    "old torch": (pickle.dumps(119547037146038801333356, 2) + PICKLE, Format.PICKLE),
    "pickle in a zip": (zipped({"a.txt": b"words", "deep/weights.onnx": PICKLE}), Format.PICKLE),
    "pickle in a zip with a broken checksum": (broken_checksum(zipped({"weights": PICKLE})), Format.PICKLE),
    "pickle in a stored zip with a broken checksum": (
        broken_checksum(zipped({"weights": PICKLE}, method=0)),
        Format.PICKLE,
    ),
    "pickle in skops": (zipped({**SKOPS, "2.bin": PICKLE}), Format.PICKLE),
    "object array in skops": (zipped({**SKOPS, "2.npy": npy(np.array([{}], object))}), Format.NUMPY_OBJECT),
    "encrypted zip": (encrypted(zipped(SKOPS)), Format.ARCHIVE),
    "bzip2 zip": (zipped(SKOPS, method=zipfile.ZIP_BZIP2), Format.ARCHIVE),
    "broken zip": (zipped(SKOPS)[:-30], Format.ARCHIVE),
    "zip": (zipped({"a.txt": b"words"}), Format.ARCHIVE),
    "zip in a zip": (zipped({"inner.zip": zipped({"a": PICKLE})}), Format.ARCHIVE),
    "empty zip": (zipped({}), Format.ARCHIVE),
    "tar": (tarred({"weights": PICKLE}), Format.ARCHIVE),
    "object array": (npy(np.array([Attack()], object)), Format.NUMPY_OBJECT),
    "object array in npz in skops": (
        zipped({"schema.json": b"{}", "1.npz": npz(a=np.array([{}], object))}),
        Format.ARCHIVE,
    ),
    "object array in npz": (npz(a=np.arange(3), b=np.array([{}], object)), Format.NUMPY_OBJECT),
    "object column": (npy(np.zeros(1, [("a", "f4"), ("b", "O")])), Format.NUMPY_OBJECT),
    "object array by another name": (npy(np.arange(3)).replace(b"'<i8'", b"'ob' 'ject'"), Format.NUMPY_OBJECT),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), Format.HDF5),
    "hdf5 behind a user block": (bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(100), Format.HDF5),
    "keras with lambda": (
        zipped({"config.json": b'{"class_name": "Lambda"}', "model.weights.h5": b"\x89HDF\r\n\x1a\n"}),
        Format.HDF5,
    ),
    "elf": (
        Path(sys.executable).resolve().read_bytes()[:4096] if sys.platform == "linux" else b"\x7fELF",
        Format.NATIVE,
    ),
    "mach-o": (b"\xcf\xfa\xed\xfe" + bytes(30), Format.NATIVE),
    "pe": (PE, Format.NATIVE),
    "static library": (b"!<arch>\nfoo.o/", Format.NATIVE),
    "pyc": (b"\xa7\r\r\n" + bytes(12) + b"\xe3" + bytes(20), Format.BYTECODE),
    "wasm": (b"\0asm\1\0\0\0", Format.BYTECODE),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("file_name", ["file", "file.pkl", "file.bin"])
def test_formats_are_told_by_content_whatever_the_name(tmp_path, name, file_name):
    content, expected = GOOD[name]
    path = tmp_path / file_name
    path.write_bytes(content)
    assert sniff(path) is expected
    assert expected not in UNSAFE


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("file_name", ["model.pkl", "model.onnx", "README.md", "noextension"])
def test_b92_unsafe_formats_are_told_by_content_whatever_the_name(tmp_path, name, file_name):
    content, expected = BAD[name]
    path = tmp_path / file_name
    path.write_bytes(content)
    assert sniff(path) is expected
    assert expected in UNSAFE


def test_a_text_that_is_named_py_is_python(tmp_path):
    path = tmp_path / "model.py"
    path.write_text("print('hello')\n")
    assert sniff(path) is Format.PYTHON


def test_the_member_that_makes_an_archive_unsafe_is_named(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(BAD["pickle in a zip"][0])
    assert examine(path).member == "deep/weights.onnx"


def test_b91_a_zip_bomb_is_not_inflated(tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(zipped({"schema.json": b"{}", "zeros": bytes(70 << 20)}))
    finding = examine(path)
    assert (finding.format, finding.problem) == (Format.ARCHIVE, "it is too large to be looked into")


@pytest.mark.parametrize("size", [1, 5, 50, 300, len(ONNX) - 1])
def test_a_cut_off_graph_is_not_onnx(tmp_path, size):
    path = tmp_path / "model.onnx"
    path.write_bytes(ONNX[:size])
    assert sniff(path) is not Format.ONNX


class TestEnsureFormat:
    def test_the_right_format_passes(self, tmp_path):
        path = tmp_path / "model.bin"
        path.write_bytes(ONNX)
        ensure_format(path, ("onnx",))

    def test_another_format_is_named(self, tmp_path):
        path = tmp_path / "model.onnx"
        path.write_bytes(b"tree\nversion=v4\n")
        with pytest.raises(
            InvalidPackage, match=r"model\.onnx: must be onnx for this backend; the content is lightgbm"
        ):
            ensure_format(path, ("onnx",))

    def test_b92_a_pickle_is_refused_with_its_reason(self, tmp_path):
        path = tmp_path / "model.onnx"
        path.write_bytes(PICKLE)
        with pytest.raises(InvalidPackage, match="is a pickle, which runs code") as caught:
            ensure_format(path, ("onnx",))
        assert caught.value.reason is Reason.UNSAFE_FORMAT

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InvalidPackage, match=r"model\.onnx: there is no such file"):
            ensure_format(tmp_path / "model.onnx", ("onnx",))


@pytest.fixture
def folder(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "model.yaml").write_text(MANIFEST.format("onnx", "model.onnx"))
    (package / "model.onnx").write_bytes(ONNX)
    return package


DATA = decode_manifest(MANIFEST.format("onnx", "model.onnx"))
CODE = decode_manifest(MANIFEST.format("python", "model.py:Model"))


def refused(folder, manifest=DATA):
    with pytest.raises(InvalidPackage) as caught:
        scan_folder(folder, manifest)
    return caught.value


class TestScanFolder:
    def test_a_clean_folder_passes(self, folder):
        (folder / "README.md").write_text("# A model\n\n    import os\n")
        (folder / "weights.bin").write_bytes(np.ones(100, "f4").tobytes())
        (folder / "reference.csv").write_text("x\n1\n")
        scan_folder(folder, DATA)

    def test_b92_every_unsafe_file_is_listed(self, folder):
        (folder / "data").mkdir()
        (folder / "data" / "a.txt").write_bytes(PICKLE)
        (folder / "b.npy").write_bytes(BAD["object array"][0])
        error = refused(folder)
        assert error.reason is Reason.UNSAFE_FORMAT
        assert [v.path for v in error.violations] == ["b.npy", "data/a.txt"]

    @pytest.mark.parametrize(
        "name", ["model.py", "requirements.txt", "lib/run.sh", "a.ipynb", "pyproject.toml", "SETUP.PY"]
    )
    def test_b96_code_in_a_data_package_is_refused(self, folder, name):
        (folder / "lib").mkdir()
        (folder / name).write_text("numpy==1\n")
        (violation,) = refused(folder).violations
        assert violation.path == name
        assert violation.reason.startswith("is code; only a package with `backend: python` may hold code")

    def test_b96_code_by_another_name_is_refused(self, folder):
        (folder / "notes.txt").write_text("import os\nos.remove('x')\n")
        assert [v.path for v in refused(folder).violations] == ["notes.txt"]

    def test_code_is_welcome_in_a_code_package(self, folder):
        (folder / "model.py").write_text("class Model: ...\n")
        (folder / "requirements.txt").write_text("numpy\n")
        scan_folder(folder, CODE)

    @pytest.mark.parametrize(
        "name",
        ["a.so", "a.so.1", "a.cpython-311.SO", "x.pth", "conftest.py", "sitecustomize.py", "a.dll", "x.pyd", "y.dylib"],
    )
    def test_b96_names_that_run_as_code_are_refused_even_in_a_code_package(self, folder, name):
        (folder / name).write_bytes(b"words")
        assert [v.path for v in refused(folder, CODE).violations] == [name]

    def test_b92_pickles_are_refused_in_a_code_package_too(self, folder):
        (folder / "weights.bin").write_bytes(PICKLE)
        assert refused(folder, CODE).reason is Reason.UNSAFE_FORMAT

    def test_b90_links_and_pipes_are_refused(self, folder):
        (folder / "link").symlink_to(folder / "model.onnx")
        (folder / "folder-link").symlink_to("/")
        os.mkfifo(folder / "pipe")
        error = refused(folder)
        assert error.reason is Reason.UNSAFE_ARCHIVE
        assert [str(v).partition(";")[0] for v in sorted(error.violations, key=lambda v: v.path)] == [
            "folder-link: is a symbolic link",
            "link: is a symbolic link",
            "pipe: is a named pipe",
        ]

    def test_ignored_files_are_not_looked_at(self, folder):
        (folder / ".git").mkdir()
        (folder / ".git" / "hook.py").write_bytes(PICKLE)
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / "model.cpython-311.pyc").write_bytes(PICKLE)
        scan_folder(folder, DATA)


@pytest.mark.parametrize("data", [b"CBM1\x10\x00", b'{"features_info": {}, "model_info": {}, "oblivious_trees": []}'])
def test_catboosts_own_forms_are_known_by_their_content(tmp_path, data):
    (tmp_path / "model").write_bytes(data)
    assert sniff(tmp_path / "model") is Format.CATBOOST


def test_a_skops_model_may_hold_the_arrays_of_a_sparse_matrix(tmp_path):
    content = zipped({"schema.json": b"{}", "1.npz": npz(indptr=np.arange(3), data=np.ones(2))})
    (tmp_path / "model.skops").write_bytes(content)
    assert sniff(tmp_path / "model.skops") is Format.SKOPS
