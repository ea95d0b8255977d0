"""Getting a model out of a pickle without letting the pickle near anything: `convert` starts a process that may do next to nothing,
unpickles there, and takes back plain bytes in a format without code, together with the original's answers.

Nothing here decides to trust: whoever calls has been told to (`limen import --trust-pickle`). Not here: judging the result, which is
loaded and compared like any other model (`authoring.importing`).
"""

from limen.authoring.conversion.messages import Candidate, Converted, Rows
from limen.authoring.conversion.process import convert

__all__ = ["Candidate", "Converted", "Rows", "convert"]
