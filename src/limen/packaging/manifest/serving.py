"""The keys `serving` and `fallback` of `model.yaml`, and checks that involve several of them.

Not here: what they mean at run time. `packaging.manifest.decoder` reads them; `serving` and `runtime` live by them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from limen.contracts.contract import Json
from limen.contracts.names import VERSION
from limen.contracts.serving import Replicas, Serving
from limen.contracts.strict.rules import INVALID, Anything, Key, Keys, ListOf, MapOf, Number, Report, Text, at, shown
from limen.packaging.manifest.fields import FIELD_NAME_TEXT, Fields, record_mistakes
from limen.packaging.manifest.values import Fallback

MAX_REPLICAS: Final = 256
MAX_VERSION: Final = 10**18 - 1
MAX_MEMORY_MB: Final = 1 << 30
"""A pebibyte; beyond it a number is a mistake and does not fit every format that carries it."""


class _Version(msgspec.Struct, frozen=True):
    """The number of a version: a whole number from 1."""

    def read(self, value: Json, path: str, report: Report) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_VERSION:
            return str(value)
        if isinstance(value, str) and VERSION.fullmatch(value):
            return value
        report.add(path, f"must be the number of a version, a whole number from 1, not {shown(value)}")
        return INVALID

    def schema(self) -> dict[str, Json]:
        whole: Json = {"type": "integer", "minimum": 1, "maximum": MAX_VERSION}
        return {"anyOf": [whole, {"type": "string", "pattern": f"^(?:{VERSION.pattern})$"}]}


REPLICAS: Final = Keys(
    (
        Key("min", Number(whole=True, low=0, high=MAX_REPLICAS), "replicas that always run; 0 unloads an idle model"),
        Key("max", Number(whole=True, low=1, high=MAX_REPLICAS), "maximum number of replicas"),
        Key(
            "concurrency",
            Number(above=0),
            "requests in flight and waiting, per replica, above which another replica starts",
        ),
        Key("idle_s", Number(low=1), "seconds without a request before a model with `min: 0` is unloaded"),
    )
)
QUEUE: Final = Keys(
    (
        Key("max_requests", Number(whole=True, low=1, high=1_000_000), "requests that may wait in one gateway"),
        Key(
            "max_wait_ms",
            Number(low=0, high=3_600_000),
            "a request without a deadline is refused if its expected wait is longer than this",
        ),
    )
)
RESOURCES: Final = Keys(
    (
        Key(
            "memory_mb",
            Number(whole=True, low=64, high=MAX_MEMORY_MB),
            "memory limit of one replica in mebibytes: a replica that nears it is replaced, and one that reaches it is ended; no limit by default",
        ),
        Key(
            "cpus",
            Number(whole=True, low=1, high=1024),
            "CPU cores of one replica: the threads of native libraries, and the processors it may run on",
        ),
    )
)
SERVING: Final = Keys(
    (
        Key("replicas", REPLICAS, "how many replicas of the model run"),
        Key("queue", QUEUE, "limits of the queue for the model in one gateway"),
        Key("resources", RESOURCES, "resource limits of one replica"),
        Key(
            "hang_after_s",
            Number(low=0.1, high=86_400),
            "seconds one run may take before its replica counts as hung and is "
            "replaced; at least three times the duration of warm-up and recent runs",
        ),
    )
)
ENVIRONMENT: Final = ListOf(
    item=Text(form="[A-Za-z_][A-Za-z0-9_]{0,99}", rule="the name of an environment variable"), max_items=50
)
FALLBACK: Final = Keys(
    (
        Key("outputs", MapOf(key=FIELD_NAME_TEXT, item=Anything()), "one whole record of the outputs, for every row"),
        Key("version", _Version(), "another version of the model, called with the time left until the deadline"),
    )
)


def check_serving(serving: dict[str, Any], report: Report) -> None:
    """Report what is wrong between the keys of `serving`."""
    replicas = serving.get("replicas", {})
    low = replicas.get("min")
    if low is None or report.has("serving.replicas.max"):
        return
    high = replicas.get("max", Replicas().max)
    if low > high:
        default = "" if "max" in replicas else ", its default"
        report.add("serving.replicas.min", f"must not be above max ({high}{default}), not {low}")


def check_environment(names: list[Any], backend: str | None, report: Report) -> None:
    """Report variables that no package is given: all of them if it brings no code, and our own settings."""
    if backend is not None and backend != "python":
        report.add("environment", f"is for code that a package brings; the {backend} backend reads no variables")
    for i, name in enumerate(names):
        if isinstance(name, str) and name.upper().startswith("LIMEN_"):
            report.add(at("environment", i), f"must not be a setting of Limen: {name} may hold a secret")


def check_fallback(fallback: dict[str, Any], outputs: Fields, report: Report) -> None:
    """Report a fallback that is not exactly one thing, or whose record is not one the model could have given."""
    given = [key for key in ("outputs", "version") if key in fallback or report.has(f"fallback.{key}")]
    if len(given) != 1:
        report.add("fallback", f"must have exactly one of outputs and version, not {'both' if given else 'none'}")
    if "outputs" not in fallback or not outputs:
        return
    record = fallback["outputs"]
    record_mistakes(record, "fallback.outputs", outputs, outputs, report)
    for name, field in outputs.items():
        # The walk lets a nullable field be left out; an answer has all of its outputs.
        if field is not None and not field.is_required and name not in record:
            report.add(f"fallback.outputs.{name}", "is required")


def build_serving(found: dict[str, Any]) -> Serving:
    """Return what `serving` says."""
    return msgspec.convert(found.get("serving", {}), Serving)


def build_fallback(found: dict[str, Any]) -> Fallback | None:
    """Return what `fallback` says; None when there is none."""
    return msgspec.convert(found["fallback"], Fallback) if "fallback" in found else None
