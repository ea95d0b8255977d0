"""The one reader of `endpoint.yaml`, the text of a spec, and the differences of two specs. Pure.

    name: credit
    model: credit
    traffic: {champion: 90, challenger: 10}
    ready: [3]

Every mistake is reported with its path, what is there and what is allowed, and all of them at once: the author reads these texts.
Not here: whether the versions it names exist and are of its major; `serving` asks the registry. Called by the management API and the
command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import yaml

from limen.contracts.contract import Json, Slo
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import InvalidArgument
from limen.contracts.management import SettingChange
from limen.contracts.names import ALIAS, ALIAS_RULE, MODEL_NAME, MODEL_NAME_RULE, is_number, is_reference
from limen.contracts.strict.rules import INVALID, Flag, Key, Keys, ListOf, Number, OneOf, Report, Text, at, shown
from limen.contracts.strict.yaml import read_yaml
from limen.packaging.manifest.serving import SERVING, build_serving, check_serving

ENDPOINT_NAME: Final = "endpoint.yaml"
MAX_ROUTES: Final = 16
"""Versions that share the requests of one endpoint."""
MAX_READY: Final = 32
MAX_MAJOR: Final = 1_000_000
_MAJOR_SUFFIX = re.compile(r"(.+)\.v([1-9][0-9]{0,5})", re.ASCII)
_REFERENCE_RULE: Final = f"the number of a version or an alias, {ALIAS_RULE}"


class _Reference(msgspec.Struct, frozen=True):
    """The number or the alias of a version."""

    def read(self, value: Json, path: str, report: Report) -> Any:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(text, str) and is_reference(text):
            return text
        report.add(path, f"must be {_REFERENCE_RULE}, not {shown(value)}")
        return INVALID

    def schema(self) -> dict[str, Json]:
        text: Json = {"type": "string", "pattern": f"^(?:[1-9][0-9]{{0,17}}|{ALIAS.pattern})$"}
        return {"anyOf": [{"type": "integer", "minimum": 1}, text]}


_REFERENCE: Final = _Reference()
_WEIGHT: Final = Number(whole=True, low=0, high=100)


class _Traffic(msgspec.Struct, frozen=True):
    """One version, or several with their percents."""

    def read(self, value: Json, path: str, report: Report) -> Any:
        if not isinstance(value, dict):
            one = _REFERENCE.read(value, path, report)
            return INVALID if one is INVALID else {one: 100}
        if not 1 <= len(value) <= MAX_ROUTES:
            report.add(path, f"must name 1 to {MAX_ROUTES} versions, not {len(value)}")
            return INVALID
        found = {}
        for key, item in value.items():
            where = at(path, key)
            reference = _REFERENCE.read(key, where, report)
            found[reference] = _WEIGHT.read(item, where, report)
        if INVALID in found or INVALID in found.values():
            return INVALID
        if sum(found.values()) != 100:
            report.add(path, f"must add up to 100 percent, not {sum(found.values())}")
            return INVALID
        return found

    def schema(self) -> dict[str, Json]:
        reference = _REFERENCE.schema()
        shares = {
            "type": "object",
            "propertyNames": reference["anyOf"][1],
            "additionalProperties": _WEIGHT.schema(),
            "minProperties": 1,
            "maxProperties": MAX_ROUTES,
        }
        return {"anyOf": [*reference["anyOf"], shares]}


_NAME: Final = Text(form=MODEL_NAME.pattern, rule=MODEL_NAME_RULE)
_MS: Final = Number(above=0)
ENDPOINT: Final = Keys(
    (
        Key("name", _NAME, "the public name that callers use", required=True),
        Key("model", _NAME, "the model whose versions it serves; by default its own name without `.v2`"),
        Key(
            "major",
            Number(whole=True, low=1, high=MAX_MAJOR),
            "the contract major that it promises; 2 for a name that ends in `.v2`, else 1",
        ),
        Key(
            "traffic",
            _Traffic(),
            "one version, or several with their share in percent, adding up to 100",
            required=True,
        ),
        Key("ready", ListOf(item=_REFERENCE, max_items=MAX_READY), "further versions to keep loaded"),
        Key(
            "placement", OneOf(("process", "inline")), "where its versions run; by default as the server is configured"
        ),
        Key("serving", SERVING, "replicas, queue and resources; by default those of each package"),
        Key(
            "slo",
            Keys(
                (Key("p95_ms", _MS, "95 % of answers arrive within this time"), Key("deadline_ms", _MS, "none later"))
            ),
            "the promised latency, in milliseconds; by default that of each contract",
        ),
        Key("paused", Flag(), "unloads all its versions; callers are told that it is not ready"),
    )
)


def endpoint_schema() -> dict[str, Json]:
    """Return the JSON Schema of `endpoint.yaml`, for editors; the caller may change the copy it gets."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": "Limen endpoint (endpoint.yaml)"} | ENDPOINT.schema()


def parse_spec(given: Mapping[str, Json] | str | bytes, source: str = ENDPOINT_NAME) -> EndpointSpec:
    """Return what an endpoint's description says.

    Args:
        given: a decoded mapping, or the text of `endpoint.yaml` (YAML or JSON).
        source: what to call it in errors.

    Raises:
        InvalidArgument: with every mistake and its path.
    """
    report = Report()
    value: Json = dict(given) if isinstance(given, Mapping) else _decoded(given, report)
    found = ENDPOINT.read(value, "", report) if not report.violations else INVALID
    if found is not INVALID:
        _check_together(found, report)
    if report.violations:
        raise _invalid(source, report)
    return _build(found)


def plain_spec(spec: EndpointSpec) -> dict[str, Json]:
    """Return a spec as `parse_spec` reads it: plain values, in the order of the reference, nothing that says nothing."""
    found: dict[str, Json] = {"name": spec.name, "model": spec.model, "major": spec.major}
    found["traffic"] = dict(sorted(spec.traffic.items(), key=_by_reference))
    if spec.ready:
        found["ready"] = list(spec.ready)
    if spec.placement:
        found["placement"] = spec.placement
    if spec.serving is not None:
        found["serving"] = _said(spec.serving)
    if spec.slo is not None:
        found["slo"] = _said(spec.slo)
    return found | ({"paused": True} if spec.is_paused else {})


def spec_text(spec: EndpointSpec) -> str:
    """Return the one YAML text of a spec; reading it gives the spec again."""
    plain = plain_spec(spec)
    plain["traffic"] = {_as_written(key): weight for key, weight in plain["traffic"].items()}
    if "ready" in plain:
        plain["ready"] = [_as_written(reference) for reference in plain["ready"]]
    text: str = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, default_flow_style=False)
    return text


def difference(old: EndpointSpec | None, new: EndpointSpec | None) -> tuple[SettingChange, ...]:
    """Return the settings in which two specs differ, in the order of the reference; None is an endpoint that is not there."""
    before = dict(_leaves(plain_spec(old), "")) if old else {}
    after = dict(_leaves(plain_spec(new), "")) if new else {}
    return tuple(
        SettingChange(path, before.get(path), after.get(path))
        for path in [*after, *(path for path in before if path not in after)]
        if before.get(path) != after.get(path)
    )


def _decoded(text: str | bytes, report: Report) -> Json:
    return read_yaml(text.encode() if isinstance(text, str) else text, report)


def _check_together(found: dict[str, Any], report: Report) -> None:
    check_serving(found.get("serving", {}), report)
    slo = found.get("slo", {})
    if "p95_ms" in slo and "deadline_ms" in slo and slo["p95_ms"] > slo["deadline_ms"]:
        text = f"must not be above deadline_ms ({shown(slo['deadline_ms'])}), not {shown(slo['p95_ms'])}"
        report.add("slo.p95_ms", text)
    ready = found.get("ready", [])
    for i, reference in enumerate(ready):
        if reference is not INVALID and reference in ready[:i]:
            report.add(f"ready[{i}]", "is repeated")


def _build(found: dict[str, Any]) -> EndpointSpec:
    name = found["name"]
    suffix = _MAJOR_SUFFIX.fullmatch(name)
    return EndpointSpec(
        name=name,
        model=found.get("model", str(suffix[1]) if suffix else name),
        major=found.get("major", int(suffix[2]) if suffix else 1),
        traffic=found["traffic"],
        ready=tuple(found.get("ready", ())),
        placement=found.get("placement", ""),
        serving=build_serving(found) if "serving" in found else None,
        slo=msgspec.convert(found["slo"], Slo) if "slo" in found else None,
        is_paused=found.get("paused", False),
    )


def _invalid(source: str, report: Report) -> InvalidArgument:
    error = InvalidArgument.of(report.violations)
    return InvalidArgument(f"{source}: {error.message}", reason=error.reason, violations=error.violations)


def _said(settings: msgspec.Struct) -> dict[str, Json]:
    """Return settings that are not at their default; all of them have one."""
    silent = type(settings)()
    found = {name: getattr(settings, name) for name in settings.__struct_fields__}
    return {
        name: _said(value) if isinstance(value, msgspec.Struct) else value
        for name, value in found.items()
        if value != getattr(silent, name)
    }


def _leaves(value: Json, path: str) -> Iterator[tuple[str, Json]]:
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, item in value.items():
        yield from _leaves(item, at(path, key))


def _by_reference(share: tuple[str, int]) -> tuple[int, int, str]:
    reference, weight = share
    return (-weight, int(reference) if is_number(reference) else 0, reference)


def _as_written(reference: str) -> str | int:
    return int(reference) if is_number(reference) else reference


class _Dumper(yaml.SafeDumper):
    """Writes what `read_yaml` reads as the same: it takes words that begin with a digit for numbers where PyYAML does not."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text[:1].isalpha() else '"')


_Dumper.add_representer(str, _write_text)
