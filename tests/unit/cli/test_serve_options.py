"""Every option of `limen serve` is a setting, with the default that the settings have."""

import msgspec
import pytest
import typer
from typer.core import TyperOption

from limen import cli
from limen.settings import FLAGS, KINDS, SECTIONS, Settings, load_settings

SERVE = typer.main.get_command(cli.app).commands["serve"]  # type: ignore[attr-defined]
OPTIONS = {o.opts[0]: o for o in SERVE.params if isinstance(o, TyperOption)}


def default_of(key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(SECTIONS[section](), name)


def test_every_option_is_a_setting_and_every_flag_an_option():
    assert OPTIONS.keys() - {"--config", "--help"} == set(FLAGS.values()) - {"PACKAGE"}


@pytest.mark.parametrize("key", [key for key in FLAGS if key != "serve.packages"])
def test_an_option_leaves_its_default_to_the_settings_and_shows_that(key):
    option, default = OPTIONS[FLAGS[key]], default_of(key)
    if isinstance(default, bool):
        assert (option.default, default) == (False, False)
        return
    assert option.default is None
    assert option.show_default == (str(default) or "none")
    info = msgspec.inspect.type_info(KINDS[key])
    info = info.type if isinstance(info, msgspec.inspect.Metadata) else info
    taken = option.type_descriptor
    if isinstance(info, msgspec.inspect.IntType):
        assert (taken.parameter_info.min, taken.parameter_info.max) == (info.ge, info.le)
    elif isinstance(info, msgspec.inspect.LiteralType):
        assert {choice.value for choice in taken.annotation} == set(info.values)


@pytest.fixture
def served(monkeypatch, tmp_path) -> list[Settings]:
    """Return the settings that `limen serve` would serve with."""
    found: list[Settings] = []
    monkeypatch.setattr("limen.app.serve", lambda settings, *_: found.append(settings))
    monkeypatch.setattr("limen.cli.commands.serve._logging", lambda given: given)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIMEN_HOME")
    return found


def run(*arguments: str) -> None:
    SERVE.main([*arguments], standalone_mode=False)


def test_options_go_before_the_file_and_leave_it_the_rest(served, tmp_path):
    (tmp_path / "limen.toml").write_text(
        '[serve]\nworkers = 3\nhttp_port = 9000\n[registry]\nhome = "state"\n[grpc]\nengine = "native"\n'
    )
    run("--workers", "2")
    [settings] = served
    assert (settings.serve.workers, settings.serve.http_port) == (2, 9000)
    assert settings.grpc.engine == "native"
    assert str(settings.registry.home) == "state"
    origins = {entry.key: entry.origin for entry in settings.entries}
    assert origins["serve.workers"] == "--workers"
    assert origins["serve.http_port"] == "limen.toml:3"
    assert origins["registry.home"] == "limen.toml:5"


def test_without_options_everything_is_left_to_the_settings(served):
    run()
    assert served == [load_settings()]


def test_a_command_finds_the_home_that_the_file_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIMEN_HOME")
    (tmp_path / "limen.toml").write_text('[registry]\nhome = "state"\n')
    status = typer.main.get_command(cli.app).commands["status"]  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="no server is running with the home state"):
        status.main([], standalone_mode=False)
    with pytest.raises(Exception, match="no server is running with the home other"):
        status.main(["--home", "other"], standalone_mode=False)
