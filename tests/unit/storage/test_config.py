"""Where a registry lives, and that its secrets stay where they are."""

from pathlib import Path

from limen.settings import load_settings
from limen.storage.config import StorageConfig


def registry_of(environment: dict[str, str], overrides: dict[str, str] | None = None) -> StorageConfig:
    return load_settings(overrides=overrides, environment=environment).registry


def test_everything_is_in_the_home_folder_unless_it_is_said_otherwise(tmp_path: Path):
    config = StorageConfig(home=tmp_path)
    assert config.database_address == f"sqlite:///{tmp_path}/limen.db"
    assert config.blobs_address == f"{tmp_path}/blobs"
    assert StorageConfig().database_address == f"sqlite:///{Path.cwd()}/.limen/limen.db"


def test_the_environment_says_where_it_lives():
    environment = {
        "LIMEN_HOME": "/var/lib/limen",
        "LIMEN_DATABASE_URL": "postgresql://ada:hunter2@db/limen",
        "LIMEN_BLOBS": "s3://bucket/prefix",
        "LIMEN_S3_ENDPOINT": "http://store:8333",
    }
    config = registry_of(environment)
    assert config.home == Path("/var/lib/limen")
    assert config.database_address == environment["LIMEN_DATABASE_URL"]
    assert config.blobs_address == "s3://bucket/prefix"
    assert config.s3_endpoint == "http://store:8333"
    assert registry_of(environment, {"registry.home": "/here"}).home == Path("/here")
    assert registry_of({"LIMEN_BLOBS": ""}) == StorageConfig()


def test_a_password_is_not_shown():
    config = StorageConfig(database_url="postgresql://ada:hunter2@db/limen", blobs="s3://key:hunter2@bucket")
    for text in (repr(config), str(config), f"{config!r}"):
        assert "hunter2" not in text
        assert "postgresql" in text
