"""A folder full of files that code would be imported from if the working directory were on the path of an interpreter."""

import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

_SPRING = "import os\nwith open({marks!r}, 'a') as file:\n    file.write({name!r} + ' ')\nraise ImportError({name!r})\n"
STARTUP = "startup.py"
"""What PYTHONSTARTUP may be pointed at."""


@cache
def imported_for_m() -> set[str]:
    """Return what the interpreter itself imports for `-m`, before a program begins: nobody but the interpreter can help it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty.py").write_text("import sys; print(*sys.modules)")
        shown = subprocess.run([sys.executable, "-m", "empty"], cwd=folder, capture_output=True, text=True, check=True)
        plain = subprocess.run(
            [sys.executable, "-P", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
        )
    return {name.partition(".")[0] for name in set(shown.stdout.split()) - set(plain.stdout.split())} - {
        "__main__",
        "empty",
    }


def set_traps(folder: Path, marks: Path) -> Path:
    """Fill a folder with a module for every name that an interpreter may ask for; each that runs leaves its name in `marks`."""
    folder.mkdir(parents=True)
    names = {*sys.stdlib_module_names, *packages_distributions(), "sitecustomize", "usercustomize", "startup"}
    names -= imported_for_m()
    for name in (n for n in names if n.isidentifier() and n not in sys.builtin_module_names):
        (folder / f"{name}.py").write_text(_SPRING.format(marks=str(marks), name=name))
    (folder / "evil.pth").write_text(f"import os; open({str(marks)!r}, 'a').write('pth ')\n")
    (folder / "limen").mkdir()
    (folder / "limen" / "sitecustomize.py").write_text(_SPRING.format(marks=str(marks), name="limen.sitecustomize"))
    return folder
