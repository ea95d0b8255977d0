"""Which template the replicas of a package are forked from: one for each backend and number of cores."""

from __future__ import annotations

from typing import Final

import msgspec

from limen.runtime.placement.process.wire.start import TEMPLATE_COMMAND, TemplateStart
from limen.runtime.sandbox.child import is_read_early, model_environment
from limen.runtime.sandbox.forking import can_fork
from limen.serving.fleet.launching import FindTemplate
from limen.serving.fleet.records import Opened
from limen.serving.messages.lines import ProcessSpec

BUDGET: Final = 10
"""Restarts of one template in ten minutes, above which replicas are started without it."""


def template_finder(*, are_forked: bool) -> FindTemplate:
    """Return what finds the template of a package; without `are_forked`, or where the platform cannot fork soundly, there is none."""
    known: dict[tuple[str, int], ProcessSpec] = {}

    def find(opened: Opened) -> ProcessSpec | None:
        # Native libraries want to know the number of cores when they are loaded.
        key = opened.summary.backend, opened.serving.resources.cpus
        if _has_early_variables(opened):
            return None
        return known.get(key) or known.setdefault(key, _template(*key))

    return find if are_forked and can_fork() else lambda _: None


def _has_early_variables(opened: Opened) -> bool:
    """Return whether a package asks for variables that a fork would get too late.

    The code of a package runs in the fork only; a library may read its variables when the template imports it.
    """
    return bool(opened.environment) and (
        opened.summary.backend != "python" or any(map(is_read_early, opened.environment))
    )


def _template(backend: str, cpus: int) -> ProcessSpec:
    return ProcessSpec(
        f"template-{backend}" + (f"-{cpus}" if cpus > 1 else ""),
        "template",
        TEMPLATE_COMMAND,
        msgspec.json.encode(TemplateStart(backend)).decode(),
        model_environment(cpus),
        is_essential=True,
        budget=BUDGET,
    )
