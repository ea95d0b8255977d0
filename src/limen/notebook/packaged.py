"""`limen.package`: packages a model in memory, ready to check, serve and publish from the notebook.

packaged = limen.package(pipeline, frame, name="churn", target="churned")
packaged.check()
with packaged.serve() as server:
    server.predict(frame.head(3))
packaged.publish(alias="champion")
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from limen.app.asking import asker
from limen.authoring.derived import Derived, derive
from limen.authoring.importing import package_converted
from limen.authoring.samples.matching import without_targets
from limen.authoring.samples.sample import Sample
from limen.authoring.scaffolding import create_package, sample_of
from limen.contracts.names import parse_model_name
from limen.notebook.originals import artifact_of, original_of, versions_of
from limen.packaging.importers.draft import Draft

if TYPE_CHECKING:
    from limen.authoring.check import Report
    from limen.contracts.management import Published
    from limen.notebook.running import RunningServer

T = TypeVar("T")


class PackagedModel:
    """A package folder that was made of a model in memory. `limen.package` makes it."""

    def __init__(self, name: str, derived: Derived) -> None:
        """Take what was made."""
        self.name = name
        self.folder = derived.created.folder
        self.needs_trust = derived.created.needs_trust
        """It contains your Python code, so `check` and `serve` run it; publishing it needs `trust.code` in `limen.toml`."""
        self._derived = derived

    def __repr__(self) -> str:
        """Say what was made, and what was guessed."""
        created, notes = self._derived.created, list(self._derived.notes)
        if self._derived.is_kept:
            notes.insert(0, "model.yaml has been edited since it was created and is kept")
        notes += [f"{field}: {why}" for field, why in created.guesses.items()]
        head = f"{self.folder}/: {created.format}, {created.inputs} inputs, {created.outputs} outputs"
        return "\n".join([head, *(f"  - {note}" for note in notes)])

    def check(self, home: Path | str = ".limen") -> Report:
        """Find everything that is wrong with the package, as `limen check` does; prints what it finds.

        Returns:
            The report; `report.ok` says whether the package is fit to serve.
        """
        from limen.authoring.check import check_package
        from limen.cli.commands.package import print_step

        report = _run(check_package(self.folder, Path(home), trust_code=self.needs_trust))
        for step in report.steps:
            print_step(step)
        return report

    def serve(self, *, http_port: int = 0, grpc_port: int = 0, home: Path | str = ".limen") -> RunningServer:
        """Serve the package until the server is stopped or this process ends; an edited or remade package is loaded again.

        Args:
            http_port: REST port; a free one if 0.
            grpc_port: gRPC port; a free one if 0.
            home: where the server keeps its files.

        Raises:
            Unavailable: the server did not start; the text says why.
        """
        from limen.notebook.running import start

        return start(
            self.name, self.folder, Path(home), http_port=http_port, grpc_port=grpc_port, trust_code=self.needs_trust
        )

    def publish(
        self, alias: str = "", *, endpoint: bool = False, home: Path | str = ".limen", server: str = ""
    ) -> Published:
        """Publish the package as the next version of its model, as `limen publish` does.

        Args:
            alias: an alias that names the version from then on.
            endpoint: open an endpoint for the model, if none serves it yet.
            home: whose registry is meant when no server is named.
            server: address of a management API.

        Raises:
            LimenError: it is refused; the text says why.
        """
        from limen.cli.commands.endpoint import open_endpoint
        from limen.cli.connection import managing
        from limen.packaging.archive.package import build

        with tempfile.TemporaryDirectory(prefix="limen-publish-") as place:
            archive = build(self.folder, Path(place)).path
            with managing(Path(home), server, create=True) as management:
                published = management.publish(self.name, archive, alias=alias)
                if endpoint:
                    open_endpoint(management, published.version, alias)
        return published


def package(
    model: Any,
    sample: Any,
    *,
    name: str,
    target: str | Sequence[str] | None = None,
    output: Path | str | None = None,
) -> PackagedModel:
    """Make a package folder of a model in memory: its file, its contract, and the model's own answers as golden examples.

    A function or another model that only Python can run is packaged as source, never as a pickle. Called again, it makes the folder
    anew; a `model.yaml` that you have edited stays.

    Args:
        model: an estimator of scikit-learn, a booster of XGBoost or LightGBM, a torch module, an ONNX model or session, a function of
            rows, or the path of a model file.
        sample: rows like those that the model was trained on: a data frame, an array, columns by name, or a list of records.
        name: the model's name.
        target: columns of the sample that are no inputs.
        output: the folder to make; `name` when not given.

    Raises:
        InvalidPackage: the model cannot be packaged so that it answers as it does here; the text says why.
        InvalidArgument: the name is not one.
    """
    parse_model_name(name, "name")
    targets = (target,) if isinstance(target, str) else tuple(target or ())
    rows = without_targets(sample_of(sample), targets)

    ask = asker(is_quiet=True)

    def make(folder: Path) -> Derived:
        with tempfile.TemporaryDirectory(prefix="limen-package-") as place:
            artifact = artifact_of(model, Path(place))
            if artifact is None:
                return _of_memory(name, model, folder, rows, sample)
            created = create_package(name, artifact, folder, rows, ask=ask)
        return Derived(created=created, notes=created.notes)

    return PackagedModel(name, derive(Path(output) if output is not None else Path(name), make, ask))


def _of_memory(name: str, model: Any, folder: Path, rows: Sample, sample: Any) -> Derived:
    converted, outputs = original_of(model, rows, sample)
    draft = Draft(
        kind="model in memory",
        name=name,
        artifact=Path(name),
        origin={"source": f"a {converted.library} in memory"},
        outputs=outputs,
        versions=versions_of(model),
    )
    imported = package_converted(draft, name, folder, converted)
    return Derived(created=imported.created, notes=(*rows.notes, *imported.notes))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, whether or not this thread has a loop that runs, as a notebook's has."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
