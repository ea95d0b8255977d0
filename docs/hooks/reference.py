"""MkDocs hook: one reference page per public module, made from its docstrings when the site is built.

Nothing is written into the tree; the pages about files, limits and protocols stand in `docs/reference`. These follow the packages in the order of the layers, the shared vocabulary first.
"""

import ast
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
ORDER = ("contracts", "packaging", "runtime", "serving", "gateway", "client", "testing", "settings", "app", "cli")
SECTION = "Modules"


def public_modules() -> list[tuple[str, str]]:
    """List (module, first line of its docstring) in reading order."""
    found = []
    for path in SOURCE.glob("limen/**/*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if any(part.startswith("_") for part in parts):
            continue
        promise = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        found.append((".".join(parts), promise))

    def place(entry: tuple[str, str]) -> tuple[int, str]:
        package = entry[0].partition(".")[2].partition(".")[0]
        rank = ORDER.index(package) if package in ORDER else len(ORDER)
        return (-1 if not package else rank, entry[0])

    return sorted(found, key=place)


def on_config(config: Any) -> Any:
    """Fill the navigation's section of modules, one group per package."""
    groups: dict[str, list[dict[str, str]]] = {}
    for module, _ in public_modules():
        package = ".".join(module.split(".")[:2])
        groups.setdefault(package, []).append({module: f"reference/{module}.md"})
    pages = ["reference/modules.md"]
    pages += [entries[0] if len(entries) == 1 else {package: entries} for package, entries in groups.items()]
    for item in config.nav:
        if isinstance(item, dict) and "Reference" in item:
            item["Reference"] = [
                {SECTION: pages} if entry == "reference/modules.md" else entry for entry in item["Reference"]
            ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    rows = ["# Modules", "", "Made from the docstrings of the source.", "", "| module | what it is |", "|---|---|"]
    for module, promise in public_modules():
        uri = f"reference/{module}.md"
        content = f"# {module}\n\n::: {module}\n"
        files.append(File.generated(config, uri, content=content))
        escaped = promise.replace("|", "\\|")
        rows.append(f"| [`{module}`]({module}.md) | {escaped} |")
    files.append(File.generated(config, "reference/modules.md", content="\n".join(rows) + "\n"))
    return files
