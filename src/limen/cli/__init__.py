"""The command line. Each command imports its dependencies when it runs, and ends errors with the next step.

`main` is the `limen` script. Exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import typer

from limen._version import __version__
from limen.cli.commands import (
    config,
    diff,
    documents,
    endpoint,
    import_,
    package,
    registry,
    registry_care,
    serve,
    sign,
    status,
    up,
)
from limen.cli.terminal import safe_output

app = typer.Typer(
    name="limen",
    help="A governed API in front of machine-learning models.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: the boxes of the rich one cost more start-up time than the rest of the command line together.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
up.register(app)
package.register(app)
diff.register(app)
documents.register(app)
import_.register(app)
sign.register(app)
serve.register(app)
registry.register(app)
registry_care.register(app)
endpoint.register(app)
status.register(app)
config.register(app)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Package a model with its contract, check it, and serve it over REST and gRPC."""
    if version:
        typer.echo(f"limen {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line and end the process."""
    with safe_output():
        _main()


def _main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output left (`limen inspect … | head`); there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except Exception as exc:  # noqa: BLE001  the last line of defence: people get a sentence and not a traceback
        sys.exit(_tell(exc))


def _tell(exc: Exception) -> int:
    from limen.cli.words import CommandError, headline, next_step, problem
    from limen.contracts.errors import LimenError
    from limen.serving.supervision.ports import ServeError

    if isinstance(exc, (CommandError, ServeError)):
        problem(exc.what, hint=exc.hint)
    elif isinstance(exc, LimenError):
        mistakes = [str(v) for v in exc.violations]
        message = f"{exc.message} ({exc.place})" if exc.place else exc.message
        problem(headline(message, mistakes), mistakes, hint=next_step(exc.reason, mistakes, message))
    elif isinstance(exc, OSError):
        name = f" {exc.filename}" if exc.filename else ""
        problem(f"the operating system refused access{name}: {exc.strerror or type(exc).__name__}")
    else:
        if os.environ.get("LIMEN_DEBUG"):
            raise exc
        problem(
            f"Limen failed unexpectedly ({type(exc).__name__})",
            hint="Run it again with LIMEN_DEBUG=1 to see the traceback, and please report it.",
        )
    return 1
