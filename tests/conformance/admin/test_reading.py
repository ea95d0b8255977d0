"""A command that reads or changes a registry without a server shows, does and refuses what the management API does."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from limen.app.editing import RegistryEditor
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


SPEC = EndpointSpec(name="other", model="score", traffic={"1": 100})
CHANGES = {
    "status": lambda door: door.status(),
    "model": lambda door: door.model("score"),
    "tag a model": lambda door: door.tag_model("score", {"team": "risk", "gone": None}),
    "tag a version": lambda door: door.tag_version("score", 1, {"data": "2026"}),
    "a tag that is none": lambda door: door.tag_version("score", 1, {"bad key": "x"}),
    "a version that is not there": lambda door: door.tag_version("score", 9, {}),
    "retire": lambda door: door.retire("score", 2, "an older one is better"),
    "retire what an alias names": lambda door: door.retire("score", 1, ""),
    "retire, and say it in two lines": lambda door: door.retire("score", 1, "a\nb"),
    "restore": lambda door: door.restore("score", 3),
    "a new alias": lambda door: door.set_alias("score", "next", 1),
    "an alias that moves": lambda door: door.set_alias("score", "next", 3),
    "an alias that has moved since": lambda door: door.set_alias("score", "next", 1, expected=1),
    "an alias of nothing": lambda door: door.set_alias("score", "next", 9),
    "an alias that is none": lambda door: door.set_alias("score", "No Alias", 1),
    "remove an alias": lambda door: door.remove_alias("score", "next"),
    "remove one that is followed": lambda door: door.remove_alias("score", "challenger"),
    "preview": lambda door: door.preview_endpoint(SPEC),
    "apply": lambda door: door.apply_endpoint(SPEC, expected=0),
    "apply what has changed since": lambda door: door.apply_endpoint(SPEC, expected=7),
    "apply what is not sound": lambda door: door.apply_endpoint(
        EndpointSpec(name="x", model="score", traffic={"1": 50})
    ),
    "remove": lambda door: door.remove_endpoint("other", expected=1),
    "remove what is not there": lambda door: door.remove_endpoint("other"),
}


def test_every_change_does_and_refuses_what_the_management_api_does(settings: Settings, tmp_path: Path):
    homes = [settings.registry.home, tmp_path / "home"]
    shutil.copytree(*homes)
    mine, theirs = (load_settings(None, {"registry.home": str(home)}) for home in homes)
    app, close = management_here(theirs)
    editor = RegistryEditor.open(mine.registry)
    with Management("http://127.0.0.1", transport=httpx.ASGITransport(app)) as management:
        for name, change in CHANGES.items():
            assert outcome(lambda: change(editor)) == outcome(lambda: change(management)), name  # noqa: B023
        assert editor.reload().server is management.reload().server is None
    editor.close()
    close()


def outcome(change: Callable[[], object]) -> object:
    """Return what a change gives, without its times, or the kind, reason and paths of its error."""
    try:
        found = change()
    except LimenError as exc:
        return type(exc), exc.reason, [v.path for v in exc.violations], "" if exc.violations else exc.message
    return re.sub(r'"\w+_at":"[^"]*"', "", msgspec.json.encode(found).decode())
