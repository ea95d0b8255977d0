"""Settings come from four places in order, and every mistake names its key and where it is."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from limen.contracts.errors import InvalidArgument, Reason
from limen.settings import FLAGS, KINDS, SECTIONS, Settings, changed_keys, find_home, is_live, load_settings
from limen.settings.sources import lines_of, variable_of, variables_of
from limen.settings.values import PATHS, SECRETS, read_secret

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
    assert {origin.rpartition(":")[0] for origin in origins(settings).values()} <= {str(path)}


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.name)
def test_bad_files_are_refused_with_the_key_and_the_file(path):
    expected = path.read_text().splitlines()[0].removeprefix("# expected: ").replace("FILE", str(path))
    with pytest.raises(InvalidArgument) as caught:
        load_settings(path, environment={})
    assert caught.value.message == expected


def test_every_setting_arrives_where_its_package_reads_it():
    path = TESTDATA / "whole.good.toml"
    settings = load_settings(path, environment={})
    assert all(entry.origin.startswith(f"{path}:") for entry in settings.entries)
    for section, values in tomllib.loads(path.read_text()).items():
        for name, value in values.items():
            key = f"{section}.{name}"
            if key not in PATHS:
                assert settings.value(key) == value, key
    assert settings.serve.packages == (str(TESTDATA / "models/score"), "/srv/iris.limen")
    assert settings.serve.announce == str(TESTDATA / "run/ready.json")
    assert settings.registry.home == TESTDATA / "state"
    assert settings.registry.blobs == "s3://bucket/prefix"
    assert settings.trust.keys == (str(TESTDATA / "keys/release.pem"), "/etc/limen/authority.pem")
    assert settings.trust.revoked == ("0" * 64, str(TESTDATA / "keys/old.pem"))


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
        "trust.signatures": f"{file}:6",
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
            "publish.probe_time_s: must be a whole number from 1 to 1000000 (LIMEN_PUBLISH_PROBE_TIME_S)",
        ),
        (
            "LIMEN_HTTP_KEEP_ALIVE_S",
            "1e3",
            "http.keep_alive_s: must be a number above 0 and at most 86400 (LIMEN_HTTP_KEEP_ALIVE_S)",
        ),
        (
            "LIMEN_HTTP_DRAIN_S",
            "nan",
            "http.drain_s: must be a number from 0 to 3600 (LIMEN_HTTP_DRAIN_S)",
        ),
        (
            "LIMEN_SERVE_PLACEMENT",
            "moon",
            'serve.placement: must be "inline" or "process" (LIMEN_SERVE_PLACEMENT)',
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


@pytest.mark.parametrize("key", KINDS)
def test_every_setting_has_the_variable_of_its_section_and_name(key):
    value = load_settings(environment={}).value(key)
    text = (
        ",".join(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)
    )
    for variable in variables_of(key):
        settings = load_settings(environment={variable: text})
        assert settings.value(key) == value
        assert origins(settings) == {key: variable}
    section, _, name = key.partition(".")
    assert variable_of(key) == f"LIMEN_{section}_{name}".upper()


def test_a_setting_with_two_variables_may_not_be_given_twice_differently():
    both = {"LIMEN_HOME": "a", "LIMEN_REGISTRY_HOME": "a"}
    assert load_settings(environment=both).registry.home == Path("a")
    with pytest.raises(InvalidArgument, match=r"registry\.home: is repeated, differently \(LIMEN_HOME, LIMEN_REGIST"):
        load_settings(environment=both | {"LIMEN_HOME": "b"})


def test_variables_that_kubernetes_makes_of_services_are_none_of_ours():
    environment = {
        "LIMEN_HTTP_SERVICE_HOST": "10.0.0.1",
        "LIMEN_HTTP_SERVICE_PORT": "80",
        "LIMEN_HTTP_SERVICE_PORT_REST": "80",
        "LIMEN_HTTP_PORT_80_TCP": "tcp://10.0.0.1:80",
        "LIMEN_HTTP_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert origins(load_settings(environment=environment)) == {}


def test_flags_are_named_as_where_a_setting_comes_from():
    assert load_settings(None, {"serve.workers": 2}, {}).entries[5].origin == "--workers"
    with pytest.raises(InvalidArgument, match=r"serve\.workers: must be a whole number from 1 to 256 \(--workers\)"):
        load_settings(None, {"serve.workers": 300}, {})
    assert FLAGS.keys() <= KINDS.keys()


def test_lines_are_those_on_which_keys_begin():
    text = (TESTDATA / "lines.toml").read_text()
    assert lines_of(text) == {
        "trust": 2, "trust.keys": 3, "trust.code": 10, "http": 12, "http.max_headers": 13, "http.drain_s": 15,
        "log": 17, "log.format": 18,
    }  # fmt: skip


def test_a_setting_is_live_or_static_and_says_so():
    settings = load_settings(environment={})
    live = {entry.key for entry in settings.entries if entry.live}
    assert live == {key for key in KINDS if is_live(key)}
    assert {"http.max_body_bytes", "admission.max_in_flight", "publish.probe_time_s", "serve.access_log"} <= live
    assert live.isdisjoint({"serve.workers", "grpc.engine", "http.drain_s", "registry.database_url", *SECRETS})


def test_settings_follow_what_is_live_in_newer_ones_and_nothing_else():
    before = load_settings(environment={})
    newer = load_settings(environment={"LIMEN_HTTP_MAX_HEADERS": "50", "LIMEN_SERVE_WORKERS": "3"})
    assert changed_keys(before, newer) == ["serve.workers", "http.max_headers"]
    followed = before.following(newer)
    assert (followed.http.max_headers, followed.serve.workers) == (50, 1)


def test_the_home_is_found_whatever_is_wrong_with_other_settings(tmp_path):
    file = tmp_path / "limen.toml"
    file.write_text('[registry]\nhome = "state"\nhoem = 1\n[http]\nmax_headers = "x"\n')
    assert find_home(file, {}) == tmp_path / "state"
    assert find_home(file, {"LIMEN_HOME": "other"}) == Path("other")
    file.write_text("[registry\n")
    with pytest.raises(InvalidArgument, match="is not TOML"):
        find_home(file, {})


def test_every_field_of_every_section_has_a_meaning_and_every_number_has_bounds():
    for section, kind in SECTIONS.items():
        for field in msgspec.structs.fields(kind):
            info = msgspec.inspect.type_info(field.type)
            info = info.type if isinstance(info, msgspec.inspect.Metadata) else info
            if isinstance(info, msgspec.inspect.IntType | msgspec.inspect.FloatType):
                assert info.le is not None, f"{section}.{field.name}"
                assert info.ge is not None or info.gt is not None, f"{section}.{field.name}"
            msgspec.convert(getattr(kind(), field.name), field.type)
