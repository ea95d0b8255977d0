"""A command that reads a registry without a server shows what the management API shows."""

import re
from pathlib import Path

import pytest

from limen.app.management import management_here
from limen.app.reading import RegistryReader
from limen.client import Management
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import LimenError, NotFound
from limen.packaging.archive.package import build
from limen.settings import Settings, load_settings
from tests.services.packages import write_score

httpx = pytest.importorskip("httpx")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the settings of a home with two versions, one of them retired, aliases, and an endpoint with a history."""
    folder = tmp_path_factory.mktemp("reading")
    found = load_settings(None, {"registry.home": str(folder / "home")})
    app, close = management_here(found)
    with Management("http://127.0.0.1", transport=httpx.ASGITransport(app)) as management:
        package = write_score(folder / "score")
        manifest = package / "model.yaml"
        for title, alias in (("Score", "champion"), ("Better", "challenger"), ("Best", "")):
            manifest.write_text(re.sub("title: .*", f"title: {title}", manifest.read_text()))
            management.publish("score", build(package, folder / "dist").path, alias=alias)
        management.retire("score", 3, "too slow")
        spec = EndpointSpec(name="score", model="score", traffic={"champion": 100})
        management.apply_endpoint(spec, expected=0)
        management.apply_endpoint(EndpointSpec(name="score", model="score", traffic={"challenger": 100}), expected=1)
    close()
    return found


def test_every_read_gives_what_the_management_api_gives(settings: Settings):
    app, close = management_here(settings)
    reader = RegistryReader.open(settings.registry)
    reads = [
        lambda door: door.models(),
        lambda door: door.versions("score"),
        lambda door: door.versions("score", include_retired=True),
        lambda door: door.version("score", 2),
        lambda door: door.version("score", "champion"),
        lambda door: door.evidence("score", 2, limit=500),
        lambda door: door.aliases("score"),
        lambda door: door.endpoints(),
        lambda door: door.endpoint("score"),
        lambda door: door.endpoint_history("score", limit=5),
    ]
    with Management("http://127.0.0.1", transport=httpx.ASGITransport(app)) as management:
        for read in reads:
            assert read(reader) == read(management)
    reader.close()
    close()


def test_what_is_not_there_is_refused_alike(settings: Settings):
    app, close = management_here(settings)
    reader = RegistryReader.open(settings.registry)
    reads = [
        lambda door: door.versions("nothing"),
        lambda door: door.version("score", 9),
        lambda door: door.version("score", "nothing"),
        lambda door: door.evidence("score", 9),
        lambda door: door.aliases("nothing"),
        lambda door: door.endpoint("nothing"),
    ]
    with Management("http://127.0.0.1", transport=httpx.ASGITransport(app)) as management:
        for read in reads:
            assert _refusal(read, reader) == _refusal(read, management)
    reader.close()
    close()


def test_reading_makes_no_registry(tmp_path: Path):
    with pytest.raises(NotFound):
        RegistryReader.open(load_settings(None, {"registry.home": str(tmp_path / "none")}).registry)
    assert not (tmp_path / "none").exists()


def _refusal(read, door) -> str:
    with pytest.raises(LimenError) as caught:
        read(door)
    return caught.value.message
