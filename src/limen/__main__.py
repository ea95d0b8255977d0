"""Run the command line as `python -m limen`; the same as the `limen` script."""

from limen.cli import main

if __name__ == "__main__":
    main()
