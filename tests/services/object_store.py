"""An S3 store that no one here wrote: SeaweedFS in one process, on free ports, until the block ends."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

WEED = shutil.which("weed", path=f"{Path(sys.executable).parent}")
ROLES = ("master", "volume", "filer", "s3")
WAIT_S = 60


class ObjectStore(NamedTuple):
    """Where it listens, and who may use it."""

    endpoint: str
    access_key: str = "limen-tests"
    secret_key: str = "only-for-tests"

    @property
    def environment(self) -> dict[str, str]:
        """Return what AWS's own tools read."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Run the store with its files in a folder."""
    assert WEED is not None
    ports = _free_ports(2 * len(ROLES))
    store = ObjectStore(f"http://127.0.0.1:{ports[6]}")
    credentials = [{"accessKey": store.access_key, "secretKey": store.secret_key}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    command = [WEED, "server", "-ip", "127.0.0.1", f"-dir={folder}/data", "-filer", "-s3"]
    command += [
        f"-s3.config={folder}/s3.json",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=200",
        # These would be the same for every store of the machine.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    for i, role in enumerate(ROLES):
        command += [f"-{role}.port={ports[2 * i]}", f"-{role}.port.grpc={ports[2 * i + 1]}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(process, store.endpoint, folder / "log")
        yield store
    finally:
        process.kill()  # a polite end waits for connections that nobody closes; what it holds is thrown away
        process.wait(WAIT_S)
        for port in ports:  # it leaves its local sockets
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink()


def _wait(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=1).close()
        except urllib.error.HTTPError as refused:
            refused.close()
            return  # it answers, though not to strangers
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
