"""A process that publishes until it is killed. Started once, it forks a new one for each line it reads: a database and a folder.

python writer.py            < "sqlite:////tmp/limen.db /tmp/work"
pid                         of the writer; a line per acknowledged version follows, then an empty one when it has died
"""

import hashlib
import itertools
import os
import random
import sys
from pathlib import Path

# What opening a database loads, so that a writer's life is spent writing.
import alembic.runtime.environment  # noqa: F401
import psycopg  # noqa: F401

from limen.contracts.catalogue import Evidence, EvidenceKind, Verdict
from limen.contracts.contract import Contract, Field
from limen.contracts.endpoint import EndpointSpec
from limen.management.stores import Stores, open_registry, utc_now
from limen.registry.registry import Registry
from limen.registry.values import NewVersion
from limen.storage.config import StorageConfig

CONTRACT = Contract(
    name="credit", inputs=(Field(name="x", type="float32"),), outputs=(Field(name="y", type="float32"),)
)
SIZE = 40_000


def main() -> None:
    for line in sys.stdin:
        address, folder = line.split()
        pid = os.fork()
        if not pid:
            write(open_registry(StorageConfig(home=Path(folder), database_url=address)), Path(folder))
        say(str(pid))
        os.waitpid(pid, 0)
        say("")


def write(stores: Stores, folder: Path) -> None:
    """Publish, name and serve one version after the other, and say so once it is committed."""
    registry: Registry = stores.registry
    for _ in itertools.count():
        content = random.randbytes(SIZE)
        digest = hashlib.sha256(content).hexdigest()
        source = folder / "source"
        source.write_bytes(content)
        stores.blobs.put(source, digest)
        new = NewVersion(contract=CONTRACT, digest=digest, archive=digest, size=SIZE, backend="onnx")
        with stores.database.transaction() as connection:
            made = registry.add_version(connection, new)
            found = Evidence(
                model="credit", version=made.number, kind=EvidenceKind.SCAN, verdict=Verdict.PASS, created_at=utc_now()
            )
            registry.add_evidence(connection, found)
            registry.set_alias(connection, "credit", "champion", made.number, expected=None, by="writer")
            spec = EndpointSpec(name="credit", model="credit", traffic={str(made.number): 100})
            stores.endpoints.apply(connection, spec, expected=None, by="writer")
        say(f"{made.number} {digest}")


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    main()
