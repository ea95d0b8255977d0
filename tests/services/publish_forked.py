"""Publishes one archive into many homes, each in a process of its own that is killed after a while.

Argument: the archive. Standard input: `SECONDS HOME` begins; 0 seconds kill nobody. Standard output: `ready`, then for each line
`done` from the process that publishes when the version is registered, and `ended TIME` when it is gone, with the seconds it had.
The model is not tried out, so that most of the time goes into unpacking, storing and registering. Forked, because an interpreter
takes longer to start than a package to be published.
"""

import os
import signal
import sys
import time
from pathlib import Path

from limen.contracts.trial import Answer, Loaded, Probed
from limen.management.catalogue import Catalogue
from limen.management.stores import open_registry, utc_now
from limen.packaging.signing.trust import Trust
from limen.publishing.config import PublishConfig
from limen.publishing.publisher import Publisher
from limen.publishing.verification import Submission, Verification
from limen.storage.config import StorageConfig


class Canned:
    def run(self, package, examples, *, trust_code, stop=None):
        return Probed(Loaded(0.1, False, ()), tuple(Answer({"score": 2.0}) for _ in examples))


def publish(home: Path, archive: Path) -> None:
    stores = open_registry(StorageConfig(home=home))
    publisher = Publisher(
        stores.registry,
        stores.database,
        stores.blobs,
        Verification(Canned(), Trust(), PublishConfig()),
        Catalogue(stores).point,
        staging=home / "staging",
        clock=utc_now,
    )
    publisher.publish(Submission(archive=archive, aliases=("champion",)))


def main():
    archive = Path(sys.argv[1])
    os.write(1, b"ready\n")
    for line in sys.stdin:
        seconds, _, home = line.strip().partition(" ")
        begun = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            publish(Path(home), archive)
            os.write(1, b"done\n")
            os._exit(0)
        if float(seconds):
            time.sleep(float(seconds))
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.write(1, b"ended %f\n" % (time.perf_counter() - begun))


if __name__ == "__main__":
    main()
