"""What asks a package's model in a process that is thrown away, put together for the commands that make packages."""

from __future__ import annotations

from limen.authoring.golden import Ask
from limen.publishing.config import PublishConfig
from limen.publishing.probe import Probe
from limen.runtime.sandbox.child import python


def asker(*, is_quiet: bool = False) -> Ask:
    """Return what loads a package and asks it, within the limits that publishing has unless others are set.

    Args:
        is_quiet: a model that fails is expected, and its log is of no interest.
    """
    return Probe(python("limen.app.probe"), PublishConfig(), is_quiet=is_quiet).run
