"""What asks a package's model in a process that is thrown away, put together for the commands that make packages."""

from __future__ import annotations

from limen.app.process import python
from limen.serving.config import PublishConfig
from limen.serving.golden import Ask
from limen.serving.probe import Probe


def asker() -> Ask:
    """Return what loads a package and asks it, within the limits that publishing has when nobody sets others."""
    return Probe(python("probe"), PublishConfig()).run
