"""The commands that sign, verify and show the settings, run as people run them."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from limen.packaging.signing.keys import private_key, public_half
from tests.services.packages import write_score
from tests.services.process import limen, refused
from tests.services.signers import write_holder, write_key


def said(*arguments: object, cwd: Path | None = None) -> str:
    """Run a command that must work quietly; return what it printed."""
    done = limen(*arguments, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def package(tmp_path):
    return write_score(tmp_path / "score")


def test_a_folder_is_signed_built_and_verified(tmp_path, package):
    signer = write_key(tmp_path)
    name = public_half(private_key(signer.private.read_bytes()))
    assert said("sign", "score", "--key", "key.pem", cwd=tmp_path) == f"score/model.sig\nsigner {name}\n"
    assert said("verify", "score", "--key", "key.pub.pem", cwd=tmp_path) == f"score: score, 2 files\nsigner {name}\n"
    lines = said("build", "score", cwd=tmp_path).splitlines()
    archive = Path(lines[0].split()[0])
    assert lines[2] == f"signature {archive.name}.sig"
    assert f"signer {name}" in said("verify", archive, "--key", "key.pub.pem", cwd=tmp_path)


def test_an_archive_is_signed_as_it_is(tmp_path, package):
    write_key(tmp_path)
    archive = Path(said("build", "score", cwd=tmp_path).split()[0])
    assert said("sign", archive, "--key", "key.pem", cwd=tmp_path).startswith(f"{archive}.sig\n")
    assert "2 files" in said("verify", archive, "--key", "key.pub.pem", cwd=tmp_path)


def test_b97_what_does_not_hold_is_told(tmp_path, package):
    write_key(tmp_path)
    write_key(tmp_path, "other")
    assert "the package is not signed" in refused("verify", "score", "--key", "key.pub.pem", cwd=tmp_path)
    said("sign", "score", "--key", "key.pem", cwd=tmp_path)
    assert "not trusted" in refused("verify", "score", "--key", "other.pub.pem", cwd=tmp_path)
    (package / "late.txt").write_text("late")
    text = refused("verify", "score", "--key", "key.pub.pem", cwd=tmp_path)
    assert "late.txt: was not signed" in text
    assert "hint: `limen sign PACKAGE --key FILE`" in text
    assert "late.txt: was not signed" in refused("build", "score", cwd=tmp_path)


def test_a_passphrase_is_given_by_reference(tmp_path, package):
    write_key(tmp_path, passphrase="open sesame")
    assert "key: is encrypted" in refused("sign", "score", "--key", "key.pem", cwd=tmp_path)
    (tmp_path / "phrase").write_text("open sesame\n")
    assert "signer" in said("sign", "score", "--key", "key.pem", "--passphrase", "file:phrase", cwd=tmp_path)
    wrong = refused("sign", "score", "--key", "key.pem", "--passphrase", "open sesame", cwd=tmp_path)
    assert "--passphrase: must be env:NAME or file:/path" in wrong
    assert "sesame" not in wrong


def test_certificates_are_verified_by_their_authority(tmp_path, package):
    holder = write_holder(tmp_path)
    said("sign", "score", "--key", holder.private, "--cert", holder.certificate, cwd=tmp_path)
    assert "signer" in said("verify", "score", "--key", holder.authority, cwd=tmp_path)


def test_a_key_that_is_none_is_named_with_its_option(tmp_path, package):
    write_key(tmp_path)
    said("sign", "score", "--key", "key.pem", cwd=tmp_path)
    assert "--key: nokey.pem cannot be read" in refused("verify", "score", "--key", "nokey.pem", cwd=tmp_path)
    assert "--key: cannot read nokey.pem" in refused("sign", "score", "--key", "nokey.pem", cwd=tmp_path)
    text = refused("verify", "score", "--key", "key.pem", cwd=tmp_path)
    assert "--key: key.pem must be a public key or certificates in PEM, and holds a private key" in text


def test_verify_needs_to_know_whom_to_believe(tmp_path, package):
    assert "Give --key FILE or --trust" in refused("verify", "score", cwd=tmp_path)


def test_the_settings_say_whom_to_believe(tmp_path, package):
    write_key(tmp_path)
    said("sign", "score", "--key", "key.pem", cwd=tmp_path)
    (tmp_path / "limen.toml").write_text('[trust]\nkeys = ["key.pub.pem"]\n')
    assert "signer" in said("verify", "score", "--trust", cwd=tmp_path)
    (tmp_path / "limen.toml").write_text('[trust]\nkeys = ["key.pub.pem"]\nrevoked = ["key.pub.pem"]\n')
    assert "revoked" in refused("verify", "score", "--trust", cwd=tmp_path)


def test_config_check_finds_every_mistake(tmp_path):
    write_key(tmp_path)
    file = tmp_path / "limen.toml"
    file.write_text('[trust]\nkeys = ["key.pub.pem"]\n[admin]\nport = 9002\n')
    found = said("config", "check", "--config", "limen.toml", cwd=tmp_path)
    assert found == "The settings are valid: 3 settings given, 1 key trusted.\n"
    file.write_text('[trust]\nkey = ["key.pub.pem"]\n[admin]\nport = "9002"\n')
    text = refused("config", "check", cwd=tmp_path)
    assert "trust.key: is not a setting; did you mean trust.keys? (limen.toml:2)" in text
    assert "admin.port: must be a whole number from 0 to 65535 (limen.toml:4)" in text
    file.write_text('[trust]\nkeys = ["absent.pem"]\n')
    assert f"trust.keys[0]: absent.pem cannot be read: {os.strerror(errno.ENOENT)}" in refused(
        "config", "check", cwd=tmp_path
    )


def test_config_show_prints_toml_and_where_each_setting_comes_from(tmp_path):
    file = tmp_path / "limen.toml"
    file.write_text('[registry]\ndatabase_url = "postgresql://limen:hunter2@db/limen"\n')
    text = said("config", "show", "--origin", cwd=tmp_path)
    assert 'database_url = "postgresql://limen:***@db/limen"  # limen.toml:2\n' in text
    assert "hunter2" not in text
    assert "  # LIMEN_HOME\n" in text
    assert "max_body_bytes = 67108864                 # default, live\n" in text
    entries = {entry["key"]: entry for entry in json.loads(said("config", "show", "--json", cwd=tmp_path))}
    assert entries["registry.database_url"] == {
        "key": "registry.database_url",
        "value": "postgresql://limen:***@db/limen",
        "origin": "limen.toml:2",
        "live": False,
    }
    plain = said("config", "show", cwd=tmp_path)
    assert "#" not in plain
    shutil.move(file, tmp_path / "old.toml")
    (tmp_path / "limen.toml").write_text(plain.replace("***", "hunter2"))
    assert said("config", "show", cwd=tmp_path) == plain
