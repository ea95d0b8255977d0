"""The versions of the credit score that come after the first: one that breaks nobody, and one that would break callers.

    python examples/credit/versions.py DIR

The second looks at one more field, which callers may leave out: those who wrote their code for the first notice nothing. The third
does as well without what people say about their employment, insists on the new field, and takes a narrower range: there are reasons
for that, but callers of the first two would be refused. DIR gets the packages credit-2 and credit-3. With the line `major: 2` in its
model.yaml the third is a line of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import train
import yaml

Manifest = dict[str, Any]

NEW_FIELD = {
    "name": "installment_limit",
    "type": "float32",
    "unit": "USD",
    "minimum": 0,
    "maximum": 1_000_000,
    "default": 34_375,
    "description": "What may be owed on installment accounts; the median of the data when it is not known.",
}
SECOND = train.NUMERIC | {"installment_limit": "total_il_high_credit_limit"} | train.CATEGORICAL
THIRD = {field: column for field, column in SECOND.items() if field != "employment_length"}


def second_manifest() -> Manifest:
    """Return the first manifest with one more field, which has a default."""
    manifest: Manifest = yaml.safe_load(train.MANIFEST.read_text())
    manifest["inputs"].append(dict(NEW_FIELD))
    manifest["bind"]["inputs"]["numeric"].append(NEW_FIELD["name"])
    return manifest


def third_manifest() -> Manifest:
    """Return the second manifest with three changes, each of which breaks somebody."""
    manifest = second_manifest()
    fields = {field["name"]: field for field in manifest["inputs"]}
    manifest["inputs"].remove(fields["employment_length"])
    del fields["installment_limit"]["default"]
    fields["revolving_utilization"]["maximum"] = 150
    manifest["title"] = "Credit default score without employment"
    return manifest


def write_second(folder: Path) -> train.Report:
    """Write the package of the second version; return how good it is."""
    return train.write_package(folder, SECOND, _text(second_manifest()))


def write_third(folder: Path) -> train.Report:
    """Write the package of the third version; return how good it is."""
    return train.write_package(folder, THIRD, _text(third_manifest()))


def _text(manifest: Manifest) -> str:
    return yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    train.print_report(write_second(folder / "credit-2"))
    train.print_report(write_third(folder / "credit-3"))


if __name__ == "__main__":
    main()
