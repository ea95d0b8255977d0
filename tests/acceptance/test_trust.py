"""One setting says whether packages may run code: commands, the server, its replicas and what is published follow it."""

from limen.client import Management
from limen.contracts.endpoint import EndpointSpec
from limen.packaging.archive.package import build
from tests.services.packages import write_slow
from tests.services.process import limen, refused, serving
from tests.services.registry import World


def test_a_server_whose_settings_trust_code_publishes_and_runs_it(tmp_path):
    config = tmp_path / "limen.toml"
    config.write_text("[trust]\ncode = true\n")
    options = ("--home", tmp_path / "home", "--admin-port", "0", "--config", config)
    with serving(*options, announcement=tmp_path / "ready.json") as server:
        with Management(f"http://{server.announced['admin']}") as management:
            archive = build(write_slow(tmp_path / "slow"), tmp_path / "dist").path
            management.publish("slow", archive, alias="champion")
            spec = EndpointSpec(name="slow", model="slow", traffic={"champion": 100})
            World(server, management, tmp_path).until_ready("slow", management.apply_endpoint(spec).revision)
        assert server.predict("slow", seconds=0.0) == {"seconds": 0.0}
        server.stop()


def test_commands_trust_code_where_the_settings_do(tmp_path, monkeypatch):
    package = write_slow(tmp_path / "slow")
    (tmp_path / "limen.toml").write_text("[trust]\ncode = true\n")
    assert limen("check", package, cwd=tmp_path).returncode == 0
    monkeypatch.setenv("LIMEN_TRUST_CODE", "false")
    refused("check", package, cwd=tmp_path)
