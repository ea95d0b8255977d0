"""The one strict reader of `model.yaml`.

Every mistake is reported with its path, what is there and what is allowed, and all of them at once. The author reads these
texts, so unlike errors of requests they show the value that was found, shortened.
Not here: whether the artifact really is what the manifest says; `limen check` loads it to find out.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

import msgspec

from limen.contracts.contract import Contract, Json
from limen.contracts.errors import Violation
from limen.contracts.names import MODEL_NAME, MODEL_NAME_RULE
from limen.contracts.strict.rules import (
    INVALID,
    Anything,
    ByKind,
    Flag,
    Key,
    Keys,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Report,
    Text,
    at,
    shown,
)
from limen.contracts.strict.yaml import MAX_BYTES, read_yaml
from limen.packaging.manifest.binding import BIND, check_bind, plain_bind
from limen.packaging.manifest.fields import FIELD_NAME_TEXT, FIELDS, Fields, check_fields, record_mistakes
from limen.packaging.manifest.serving import (
    ENVIRONMENT,
    FALLBACK,
    SERVING,
    build_fallback,
    build_serving,
    check_environment,
    check_fallback,
    check_serving,
)
from limen.packaging.manifest.values import MANIFEST_NAME, Bind, Manifest
from limen.packaging.paths import ensure_inside, invalid, path_problem

BACKENDS: Final = ("onnx", "sklearn", "xgboost", "lightgbm", "rules", "torch", "transformers", "python")
MAX_MAJOR: Final = 9999
MAX_EXAMPLES_BYTES: Final = 4 << 20
"""Size of a file of examples."""


class PackageFiles(Protocol):
    """The files of one package, wherever they are."""

    def has(self, path: str) -> bool:
        """Return whether there is a file at this relative path."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """Return the first `limit` bytes of a file."""
        ...


_RECORD: Final = MapOf(key=FIELD_NAME_TEXT, item=Anything())
EXAMPLES: Final = ListOf(
    item=Keys(
        (
            Key("name", Text(max_length=200), "what the example shows"),
            Key("inputs", _RECORD, "one record of the inputs", required=True),
            Key("outputs", _RECORD, "the expected answer, or a part of it"),
        )
    )
)
_PATH: Final = Text(max_length=300)
_MS: Final = Number(above=0)
_ROWS: Final = Number(whole=True, low=1, high=(1 << 31) - 1)
UNBATCHED: Final = "none"
BATCHING: Final = Keys(
    (
        Key("max_rows", _ROWS, "rows in one run of the model"),
        Key("max_request_rows", _ROWS, "rows in one request"),
        Key("max_wait_ms", Number(low=0, high=60_000), "how long rows wait to be batched while the model is idle"),
        Key("merge", Flag(), "whether requests from different callers may share a run; tested by default"),
    )
)
MANIFEST: Final = Keys(
    (
        Key("name", Text(form=MODEL_NAME.pattern, rule=MODEL_NAME_RULE), "the model's name", required=True),
        Key(
            "major",
            Number(whole=True, low=1, high=MAX_MAJOR),
            "increases with breaking changes; each major has a separate endpoint",
        ),
        Key("title", Text(max_length=200), "a short name for people"),
        Key("description", Text(), "what the model does, for whom, and what it must not be used for"),
        Key("owner", Text(max_length=200), "who is responsible for it"),
        Key("licence", Text(max_length=200), "the terms it may be used under"),
        Key("tags", ListOf(item=Text(max_length=100), max_items=100), "keywords for search"),
        Key("task", Text(max_length=100), "the kind of task, such as classification"),
        Key("backend", OneOf(BACKENDS), f"what loads the artifact: {', '.join(BACKENDS)}", required=True),
        Key("artifact", _PATH, "the model's file in the package; for python `file.py:Class`", required=True),
        Key("inputs", FIELDS, "the model's inputs", required=True),
        Key("outputs", FIELDS, "the model's outputs", required=True),
        Key("bind", BIND, "how the fields map to the artifact's tensors; by name by default"),
        Key(
            "slo",
            Keys(
                (Key("p95_ms", _MS, "95 % of answers arrive within this time"), Key("deadline_ms", _MS, "none later"))
            ),
            "the promised latency, in milliseconds",
        ),
        Key(
            "batching",
            ByKind(
                "none or a mapping of max_rows, max_request_rows, max_wait_ms, merge",
                text=OneOf((UNBATCHED,)),
                mapping=BATCHING,
            ),
            "how many rows may be batched; `none` for a model whose tensors have no batch axis",
        ),
        Key("serving", SERVING, "how to run the model: replicas, queue and resources"),
        Key(
            "environment",
            ENVIRONMENT,
            "names of environment variables that the package's code reads; its processes get only these and the standard ones",
        ),
        Key("fallback", FALLBACK, "the answer to give when the model fails or is too slow; such answers are marked"),
        Key(
            "examples",
            ByKind("a list of examples or the path of a file that holds it", text=_PATH, items=EXAMPLES),
            "golden examples: the model is ready once it answers all of them correctly; `limen check` replays them",
        ),
        Key(
            "tolerance",
            Keys(
                (
                    Key("absolute", Number(low=0), "allowed absolute difference"),
                    Key("relative", Number(low=0), "allowed difference as a part of the golden value"),
                )
            ),
            "how much a number may differ from its golden value",
        ),
        Key("reference", _PATH, "a sample of the training data in the package, CSV or Parquet"),
    )
)
_DESCRIPTION: Final = (
    "name",
    "major",
    "title",
    "description",
    "owner",
    "licence",
    "tags",
    "task",
    "slo",
    "batching",
    "tolerance",
)


def decode_manifest(text: bytes | str, source: str = MANIFEST_NAME, *, files: PackageFiles | None = None) -> Manifest:
    """Return what a manifest says.

    Args:
        text: the content of `model.yaml`.
        source: how the file is called in the error text.
        files: the package's other files. Without them the files a manifest names are not looked at, and examples that are
            in a file of their own are left out.

    Raises:
        InvalidPackage: with every mistake found (up to 100) and its path.
    """
    report = Report()
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    value = read_yaml(data, report)
    if not report.violations or isinstance(value, dict):
        found = MANIFEST.read(value, "", report)
        if found is not INVALID:
            examples = _check(found, report, files)
            if not report.violations:
                return _build(found, examples)
    count = len(report.violations)
    raise invalid(f"{source} has {'one mistake' if count == 1 else f'{count} mistakes'}", report.violations)


def read_manifest(folder: Path) -> Manifest:
    """Return what the manifest of a package folder says, after a look at the files it names.

    Raises:
        InvalidPackage: no `model.yaml`, or mistakes in it, or files it names that are not there.
    """
    files = _FolderFiles(folder)
    if not files.has(MANIFEST_NAME):
        missing = Violation(MANIFEST_NAME, "no such file in the folder")
        raise invalid("this is not a package", [missing])
    return decode_manifest(files.read(MANIFEST_NAME, MAX_BYTES + 1), files=files)


class _FolderFiles:
    """The files of a package folder; a path that leads out of it is refused."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, path: str) -> bool:
        return ensure_inside(self._folder, path).is_file()

    def read(self, path: str, limit: int) -> bytes:
        with ensure_inside(self._folder, path).open("rb") as file:
            return file.read(limit)


def _check(found: dict[str, Any], report: Report, files: PackageFiles | None) -> list[Json]:
    """Report everything that takes more than one key to see; return the examples."""
    inputs = check_fields(found.get("inputs", INVALID), "inputs", report)
    outputs = check_fields(found.get("outputs", INVALID), "outputs", report)
    if "bind" in found:
        check_bind(found["bind"], inputs, outputs, report)
    for key in ("tags", "examples"):
        if isinstance(found.get(key), list) and INVALID in found[key]:
            del found[key]
    slo = found.get("slo", {})
    if "p95_ms" in slo and "deadline_ms" in slo and slo["p95_ms"] > slo["deadline_ms"]:
        text = f"must not be above deadline_ms ({shown(slo['deadline_ms'])}), not {shown(slo['p95_ms'])}"
        report.add("slo.p95_ms", text)
    check_serving(found.get("serving", {}), report)
    if isinstance(found.get("environment"), list):
        check_environment(found["environment"], found.get("backend"), report)
    if "fallback" in found:
        check_fallback(found["fallback"], outputs, report)
    _check_files(found, report, files)
    examples, source = _examples(found, report, files)
    if inputs and outputs:
        for i, example in enumerate(examples):
            _check_example(example, at(source, i), inputs, outputs, report)
    return examples


def _check_files(found: dict[str, Any], report: Report, files: PackageFiles | None) -> None:
    artifact = found.get("artifact")
    if artifact is not None and found.get("backend") == "python":
        artifact, colon, name = artifact.partition(":")
        if not (colon and name.isidentifier() and artifact.endswith(".py")):
            report.add(
                "artifact", f"must be a file and a class, such as model.py:CreditModel, not {shown(found['artifact'])}"
            )
            artifact = None
    if artifact is not None:
        _check_file("artifact", artifact, (), report, files)
    if "reference" in found:
        _check_file("reference", found["reference"], (".csv", ".parquet"), report, files)


def _check_file(key: str, path: str, suffixes: tuple[str, ...], report: Report, files: PackageFiles | None) -> bool:
    """Report a path that is no good; return whether there is something to read at it."""
    if problem := path_problem(path):
        report.add(key, f"must be the path of a file inside the package: {shown(path)} {problem}")
    elif suffixes and PurePosixPath(path).suffix not in suffixes:
        report.add(key, f"must be a file ending in {' or '.join(suffixes)}, not {shown(path)}")
    elif files is not None and not files.has(path):
        report.add(key, f"no file {shown(path)} in the package")
    else:
        return files is not None
    return False


def _examples(found: dict[str, Any], report: Report, files: PackageFiles | None) -> tuple[list[Json], str]:
    """Return the examples and where they are: in the manifest or in a file of their own."""
    examples = found.get("examples", [])
    if not isinstance(examples, str):
        return examples, "examples"
    if not _check_file("examples", examples, (".json", ".yaml", ".yml"), report, files) or files is None:
        return [], examples
    inner = Report()
    value = read_yaml(files.read(examples, MAX_EXAMPLES_BYTES + 1), inner, max_bytes=MAX_EXAMPLES_BYTES)
    read = EXAMPLES.read(value, "", inner) if not inner.violations else INVALID
    for mistake in inner.violations:
        report.add(f"{examples}{mistake.path}", mistake.reason)
    return ([] if read is INVALID or INVALID in read else read), examples


def _check_example(example: dict[str, Any], path: str, inputs: Fields, outputs: Fields, report: Report) -> None:
    given = example.get("outputs", {})
    if "inputs" in example:
        record_mistakes(example["inputs"], f"{path}.inputs", inputs, inputs, report)
    # An example may leave outputs out; those that are there must be right.
    wanted = {name: field for name, field in outputs.items() if name in given}
    record_mistakes(given, f"{path}.outputs", wanted, outputs, report)


def _build(found: dict[str, Any], examples: list[Json]) -> Manifest:
    parts = {key: found[key] for key in _DESCRIPTION if key in found}
    if parts.get("batching") == UNBATCHED:
        # A run takes one request, which is one row inside.
        parts["batching"] = {"is_batched": False, "max_rows": 1}
    contract = parts | {"inputs": found["inputs"], "outputs": found["outputs"], "examples": examples}
    return Manifest(
        contract=msgspec.convert(contract, Contract),
        backend=found["backend"],
        artifact=found["artifact"],
        bind=msgspec.convert(plain_bind(found.get("bind", {})), Bind),
        serving=build_serving(found),
        environment=tuple(found.get("environment", ())),
        fallback=build_fallback(found),
        reference=found.get("reference", ""),
    )
