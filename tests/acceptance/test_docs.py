"""The pages of the documentation do what they say: their commands are run, and print what is shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.acceptance.pages import INTEROP, Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """Return a folder in which somebody has followed Get started."""
    folder = tmp_path_factory.mktemp("started")
    shutil.copy(repository / "examples" / "iris" / "train.py", folder)
    Reader(folder).follow(repository / "docs" / "get-started.md")
    return folder


@pytest.fixture(scope="module")
def packaged(started: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """Return a folder in which somebody has followed Package a model as well."""
    folder = tmp_path_factory.mktemp("packaged") / "folder"
    shutil.copytree(started, folder)
    Reader(folder).follow(repository / "docs" / "how-to" / "package-a-model.md")
    return folder


def test_following_get_started_and_package_a_model_shows_what_the_pages_show(packaged: Path) -> None:
    assert (packaged / "dist").is_dir()


def test_following_evolve_a_contract_shows_what_the_page_shows(packaged: Path, repository: Path) -> None:
    reader = Reader(packaged)
    reader.follow(repository / "docs" / "how-to" / "evolve-a-contract.md")
    assert reader.done.count("limen diff gradient better") == 3


def test_following_import_a_model_shows_what_the_page_shows(started: Path, tmp_path: Path, repository: Path) -> None:
    reader = Reader(shutil.copytree(started, tmp_path / "folder"))
    reader.follow(repository / "docs" / "how-to" / "import.md")
    assert not list((tmp_path / "folder" / "virginica").glob("*.pkl"))


def test_following_publish_shows_what_the_page_shows(packaged: Path, tmp_path: Path, repository: Path) -> None:
    folder = shutil.copytree(packaged, tmp_path / "folder")
    reader = Reader(folder)
    reader.follow(repository / "docs" / "how-to" / "publish.md")
    assert "limen verify gradient --trust" in reader.done


def test_following_serve_versions_under_a_name_shows_what_the_page_shows(
    packaged: Path, tmp_path: Path, repository: Path
) -> None:
    reader = Reader(shutil.copytree(packaged, tmp_path / "folder"))
    reader.follow(repository / "docs" / "how-to" / "registry.md")
    assert any(command.startswith("limen model retire gradient 2 --reason") for command in reader.done)


def test_following_serve_shows_what_the_page_shows(started: Path, repository: Path) -> None:
    reader = Reader(started)
    reader.follow(repository / "docs" / "how-to" / "serve.md")
    assert any("--announce" in command for command in reader.done)


def test_following_call_a_model_shows_what_the_page_shows(packaged: Path, repository: Path) -> None:
    reader = Reader(packaged)
    reader.follow(repository / "docs" / "how-to" / "call.md")
    assert "python ask_binary.py" in reader.done


def test_following_call_and_manage_from_python_shows_what_the_page_shows(packaged: Path, repository: Path) -> None:
    reader = Reader(packaged)
    reader.follow(repository / "docs" / "how-to" / "python-client.md")
    assert "python ask_async.py" in reader.done


@pytest.mark.interop
def test_following_call_a_model_with_foreign_clients_shows_what_the_page_shows(
    packaged: Path, repository: Path
) -> None:
    """The same page with tritonclient and grpcurl."""
    assert INTEROP.is_dir(), "run `make interop` first"
    reader = Reader(packaged, has_clients=True)
    reader.follow(repository / "docs" / "how-to" / "call.md")
    assert "python ask_stream.py" in reader.done
    assert any(command.startswith("grpcurl") for command in reader.done)
