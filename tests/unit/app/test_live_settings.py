"""A running server follows its settings file: what is live at once, what is static not, and nothing that is wrong."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from limen.app.live_settings import LiveSettings
from limen.settings import load_settings


class World:
    """A settings file and what follows it."""

    def __init__(self, folder: Path, text: str | None = "", environment: Mapping[str, str] | None = None) -> None:
        self.file = folder / "limen.toml"
        if text is not None:
            self.file.write_text(text)
        started = load_settings(self.file if text is not None else None, environment=environment or {})
        self.live = LiveSettings(started, started)
        self.taken: list[tuple[str, ...]] = []
        self.live.take = lambda changed: self.taken.append(tuple(changed))

    async def look(self, times: int = 2) -> None:
        """Look as often as it takes to see that the file stays the same."""
        for _ in range(times):
            await self.live.look()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, "[http]\nmax_headers = 50\n")


async def test_nothing_is_taken_from_a_file_that_says_what_held_before(world):
    await world.look()
    assert world.taken == []
    assert world.live.view().needs_restart == ()


async def test_a_live_setting_is_taken_and_named(world, caplog):
    caplog.set_level("INFO")
    world.file.write_text("[http]\nmax_headers = 60\n[admission]\nmax_in_flight = 9\n")
    await world.look()
    assert (world.live.now.http.max_headers, world.live.now.admission.max_in_flight) == (60, 9)
    assert world.taken == [("http.max_headers", "admission.max_in_flight")]
    assert "settings have changed in" in caplog.text
    world.file.write_text("")
    await world.look()
    assert world.live.now.http.max_headers == 100


async def test_a_file_that_is_being_written_is_left_alone(world):
    await world.look()
    world.file.write_text("[http]\nmax_headers = 60\n")
    await world.look(1)
    world.file.write_text("[http]\nmax_headers = 70\n# more\n")
    await world.look(1)
    assert world.taken == []
    await world.look(1)
    assert world.live.now.http.max_headers == 70


async def test_a_static_setting_waits_for_a_restart_and_is_named_once(world, caplog):
    world.file.write_text("[http]\nmax_headers = 50\ndrain_s = 1\n[serve]\nworkers = 3\n")
    await world.look(4)
    assert world.live.now.serve.workers == 1
    assert world.live.view().needs_restart == ("serve.workers", "http.drain_s")
    assert caplog.text.count("need a restart of the server: serve.workers, http.drain_s") == 1
    assert world.taken == []
    world.file.write_text("[http]\nmax_headers = 50\n")
    await world.look()
    assert world.live.view().needs_restart == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[http]\nmax_headers = 1\n", "limen.toml:2"),
        ("[htp]\n", "did you mean http?"),
        ("[http\n", "is not TOML"),
        ("\xff", "cannot be read"),
        (None, "the settings file"),
    ],
)
async def test_a_broken_file_changes_nothing_and_is_told_until_it_is_mended(world, caplog, text, told):
    if text is None:
        world.file.unlink()
    else:
        world.file.write_bytes(text.encode("latin-1"))
    await world.look(4)
    assert world.live.now.http.max_headers == 50
    assert told in world.live.view().problem
    assert caplog.text.count("the settings cannot be followed") == 1
    assert world.taken == [()]
    world.file.write_text("[http]\nmax_headers = 51\n")
    await world.look()
    assert (world.live.view().problem, world.live.now.http.max_headers) == ("", 51)
    assert "can be followed again" in caplog.text


async def test_a_file_that_is_as_before_after_a_mistake_takes_the_problem_away(world):
    before = world.file.read_text()
    world.file.write_text("x")
    await world.look()
    world.file.write_text(before)
    await world.look()
    assert world.taken == [(), ()]
    assert world.live.problem == ""


async def test_environment_and_flags_still_go_before_the_file(tmp_path):
    world = World(tmp_path, "", {"LIMEN_HTTP_MAX_HEADERS": "50"})
    world.file.write_text("[http]\nmax_headers = 60\n")
    await world.look()
    assert world.live.now.http.max_headers == 50
    assert world.taken == []


async def test_a_file_that_appears_in_the_working_directory_is_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path, None)
    await world.look()
    assert world.live.view().file == ""
    world.file.write_text("[http]\nmax_headers = 60\n")
    await world.look()
    assert world.live.now.http.max_headers == 60
    assert world.live.view().file == "limen.toml"
    world.file.unlink()
    await world.look()
    assert world.live.now.http.max_headers == 60
    assert "is gone" in world.live.problem


async def test_what_was_followed_before_control_was_restarted_still_holds_beside_a_broken_file(tmp_path):
    file = tmp_path / "limen.toml"
    file.write_text("[http]\nmax_headers = 50\n")
    started = load_settings(file, environment={})
    file.write_text("[http]\nmax_headers = 60\n")
    live = LiveSettings(started, load_settings(file, environment={}))
    file.write_text("broken")
    await live.look()
    await live.look()
    assert live.now.http.max_headers == 60
