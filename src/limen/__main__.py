"""Entry point of the `limen` command, as a script and as `python -m limen`."""

import os
import sys


def main() -> None:
    """Run the command line."""
    _leave_out_here()
    from limen.cli import main as run

    run()


def _leave_out_here() -> None:
    """Import nothing from the working directory: `-m` puts it first, and an empty entry of PYTHONPATH means it."""
    here = {"", os.getcwd()}  # noqa: PTH109 - pathlib is not imported yet, and might be somebody else's
    if sys.path and sys.path[0] in here:
        del sys.path[0]
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if len(given) > 1 and "" in given and here.isdisjoint(entry for entry in given if entry):
        sys.path[:] = [entry for entry in sys.path if entry not in here]


if __name__ == "__main__":
    main()
