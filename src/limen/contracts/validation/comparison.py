"""Compares an answer with its golden value, within the contract's tolerance.

Called by the warm-up of a version, `limen check` and, later, the replay of golden examples between versions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from limen.contracts.contract import Json, Tolerance


def differences(
    expected: Mapping[str, Json], actual: Mapping[str, Json], tolerance: Tolerance, path: str = ""
) -> list[str]:
    """Return one line for every expected field that the actual record lacks or gives differently.

    Numbers agree when `|a - b| <= absolute + relative * |b|` with b the expected value; everything else must be equal.
    """
    found: list[str] = []
    for name, want in expected.items():
        where = f"{path}.{name}" if path else name
        if name not in actual:
            found.append(f"{where}: is missing")
        else:
            _compare(want, actual[name], tolerance, where, found)
    return found


def _compare(want: Json, got: Json, tolerance: Tolerance, where: str, found: list[str]) -> None:
    if isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            found.append(f"{where}: expected {len(want)} values, got {len(got)}")
            return
        for i, (a, b) in enumerate(zip(want, got, strict=True)):
            _compare(a, b, tolerance, f"{where}[{i}]", found)
    elif _is_number(want) and _is_number(got):
        if not _close(float(got), float(want), tolerance):
            found.append(f"{where}: expected {want}, got {got} (difference {abs(got - want):.3g})")
    elif want != got or isinstance(want, bool) != isinstance(got, bool):
        found.append(f"{where}: expected {want}, got {got}")


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _close(got: float, want: float, tolerance: Tolerance) -> bool:
    if math.isnan(want) or math.isnan(got):
        return math.isnan(want) and math.isnan(got)
    if math.isinf(want):
        return got == want
    return abs(got - want) <= tolerance.absolute + tolerance.relative * abs(want)
