"""Settings come from four places in order, and every mistake names its key and where it is."""

from pathlib import Path

import pytest

from limen.contracts.errors import InvalidArgument, Reason
from limen.settings import Settings, load_settings, read_secret

TESTDATA = Path(__file__).parent / "testdata"
GOOD = sorted(TESTDATA.glob("*.good.toml"))
BAD = sorted(TESTDATA.glob("*.bad.toml"))


def origins(settings: Settings) -> dict[str, str]:
    return {entry.key: entry.origin for entry in settings.entries if entry.origin != "default"}


def shown(settings: Settings, key: str):
    return next(entry.value for entry in settings.entries if entry.key == key)


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.name)
def test_good_files_are_read(path):
    settings = load_settings(path, environment={})
    assert set(origins(settings).values()) <= {str(path)}


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.name)
def test_bad_files_are_refused_with_the_key_and_the_file(path):
    expected = path.read_text().splitlines()[0].removeprefix("# expected: ").replace("FILE", str(path))
    with pytest.raises(InvalidArgument) as caught:
        load_settings(path, environment={})
    assert caught.value.message == expected


def test_every_setting_arrives_where_its_package_reads_it():
    settings = load_settings(TESTDATA / "whole.good.toml", environment={})
    assert settings.registry.home == TESTDATA / "state"
    assert settings.registry.database_url == "postgresql://limen@db/limen"
    assert settings.registry.blobs == "s3://bucket/prefix"
    assert settings.trust.signatures == "required"
    assert settings.trust.keys == (str(TESTDATA / "keys/release.pem"), "/etc/limen/authority.pem")
    assert settings.trust.revoked == ("0" * 64, str(TESTDATA / "keys/old.pem"))
    assert settings.trust.code
    assert settings.publish.probe_memory_mb == 512
    assert settings.publish.same_answers
    assert settings.publish.at_once == 3
    assert (settings.admin.host, settings.admin.port) == ("::1", 0)
    assert (settings.log.format, settings.log.level) == ("json", "warning")
    assert all(entry.origin != "default" for entry in settings.entries)


def test_without_a_file_there_are_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings(environment={})
    assert settings.trust.signatures == "optional"
    assert not settings.trust.code
    assert settings.admin.host == "127.0.0.1"
    assert origins(settings) == {}


def test_the_command_line_goes_before_the_environment_before_the_file_before_the_default(tmp_path):
    file = tmp_path / "limen.toml"
    file.write_text('[admin]\nhost = "file"\nport = 1\n[trust]\ncode = true\nsignatures = "required"\n')
    environment = {"LIMEN_ADMIN_HOST": "environment", "LIMEN_ADMIN_PORT": "2", "LIMEN_TRUST_CODE": "false"}
    settings = load_settings(file, {"admin.host": "command line", "admin.port": None}, environment)
    assert (settings.admin.host, settings.admin.port) == ("command line", 2)
    assert not settings.trust.code
    assert settings.trust.signatures == "required"
    assert origins(settings) == {
        "admin.host": "command line",
        "admin.port": "LIMEN_ADMIN_PORT",
        "trust.code": "LIMEN_TRUST_CODE",
        "trust.signatures": str(file),
    }


def test_the_file_is_the_one_named_or_the_one_that_is_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("limen.toml").write_text("[admin]\nport = 1\n")
    Path("other.toml").write_text("[admin]\nport = 2\n")
    Path("third.toml").write_text("[admin]\nport = 3\n")
    variable = {"LIMEN_CONFIG": "other.toml"}
    assert load_settings(environment={}).admin.port == 1
    assert load_settings(environment=variable).admin.port == 2
    assert load_settings(Path("third.toml"), environment=variable).admin.port == 3
    with pytest.raises(InvalidArgument, match=r"absent\.toml: the settings file cannot be read"):
        load_settings(environment={"LIMEN_CONFIG": "absent.toml"})


def test_registry_settings_have_short_variables():
    environment = {
        "LIMEN_HOME": "state",
        "LIMEN_DATABASE_URL": "sqlite:////x",
        "LIMEN_BLOBS": "s3://b/p",
        "LIMEN_TRUST_KEYS": "a.pem, b.pem",
        "LIMEN_UNRELATED": "x",
    }
    settings = load_settings(environment=environment)
    assert (settings.registry.home, settings.registry.database_url) == (Path("state"), "sqlite:////x")
    assert settings.registry.blobs == "s3://b/p"
    assert settings.trust.keys == ("a.pem", "b.pem")


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("LIMEN_TRUST_CODE", "yes", "trust.code: must be true or false (LIMEN_TRUST_CODE)"),
        ("LIMEN_TRUST_CODE", "", "trust.code: must be true or false (LIMEN_TRUST_CODE)"),
        ("LIMEN_ADMIN_PORT", "80.2", "admin.port: must be a whole number from 0 to 65535 (LIMEN_ADMIN_PORT)"),
        ("LIMEN_ADMIN_PORT", "-1", "admin.port: must be a whole number from 0 to 65535 (LIMEN_ADMIN_PORT)"),
        (
            "LIMEN_PUBLISH_PROBE_TIME_S",
            "3s",
            "publish.probe_time_s: must be a whole number from 1 (LIMEN_PUBLISH_PROBE_TIME_S)",
        ),
        ("LIMEN_TRUST_KEY", "x", "LIMEN_TRUST_KEY: is not a setting; did you mean LIMEN_TRUST_KEYS? (environment)"),
    ],
)
def test_what_the_environment_says_wrongly_is_refused(variable, text, expected):
    with pytest.raises(InvalidArgument) as caught:
        load_settings(environment={variable: text})
    assert caught.value.message == expected


def test_an_unknown_key_is_told_from_a_bad_value(tmp_path):
    with pytest.raises(InvalidArgument) as caught:
        load_settings(TESTDATA / "key.bad.toml", environment={})
    assert caught.value.reason is Reason.UNKNOWN_FIELD
    with pytest.raises(InvalidArgument) as caught:
        load_settings(TESTDATA / "bool.bad.toml", environment={})
    assert caught.value.reason is Reason.INVALID_FIELD


def test_secrets_are_read_where_they_are_and_never_shown(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("postgresql://limen:hunter2@db/limen\n")
    for raw, seen in (
        (f"file:{secret}", f"file:{secret}"),
        ("env:DATABASE", "env:DATABASE"),
        ("postgresql://limen:hunter2@db/limen", "postgresql://limen:***@db/limen"),
    ):
        environment = {"LIMEN_DATABASE_URL": raw, "DATABASE": "postgresql://limen:hunter2@db/limen"}
        settings = load_settings(environment=environment)
        assert settings.registry.database_url == "postgresql://limen:hunter2@db/limen"
        assert shown(settings, "registry.database_url") == seen


def test_a_secret_is_given_by_reference():
    assert read_secret("env:A", "key", {"A": "b"}) == "b"
    with pytest.raises(InvalidArgument, match="key: must be env:NAME or file:/path") as caught:
        read_secret("hunter2", "key", {})
    assert "hunter2" not in str(caught.value)


def test_errors_never_show_the_value():
    with pytest.raises(InvalidArgument) as caught:
        load_settings(environment={"LIMEN_TRUST_SIGNATURES": "hunter2"})
    assert "hunter2" not in caught.value.message
