"""Resolves the spec of an endpoint: its versions, their shares and their aliases.

Reads the registry and decides nothing about processes. Called by `management.catalogue`, which refuses what may not be, and by
`serving.sources.reconciler`, which makes it so.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from limen.contracts.catalogue import ModelVersion
from limen.contracts.compatibility.compare import compare
from limen.contracts.compatibility.findings import Change
from limen.contracts.endpoint import EndpointSpec, Route
from limen.contracts.errors import Incompatible, NotAllowedNow, NotFound, Reason, Violation
from limen.registry.registry import Registry

Moves = Mapping[str, ModelVersion]
"""Aliases of the spec's model that are about to point elsewhere."""


class Resolved(msgspec.Struct, frozen=True):
    """An endpoint's versions at one moment."""

    routes: tuple[Route, ...]
    """Oldest first; nothing without a share."""
    aliases: dict[str, int]
    versions: dict[int, ModelVersion]
    """Everything that is to be loaded."""

    @property
    def newest(self) -> ModelVersion:
        """The newest version that requests go to."""
        return self.versions[max(route.version for route in self.routes)]


def resolve(registry: Registry, spec: EndpointSpec, moves: Moves | None = None) -> Resolved:
    """Return what a spec names now, or would name once aliases have moved.

    Raises:
        NotFound: a model, a version or an alias that does not exist, with its path.
        NotAllowedNow: RETIRED; a version that was taken out of use.
        Incompatible: a version of another major.
    """
    shares: dict[int, int] = {}
    aliases: dict[str, int] = {}
    versions: dict[int, ModelVersion] = {}
    paths = {f"traffic.{reference}": reference for reference in spec.traffic}
    paths |= {f"ready[{i}]": reference for i, reference in enumerate(spec.ready)}
    for path, reference in paths.items():
        version = _version(registry, spec, reference, path, moves or {})
        versions[version.number] = version
        if not reference.isdecimal():
            aliases[reference] = version.number
        weight = spec.traffic.get(reference, 0) if path.startswith("traffic.") else 0
        if weight:
            shares[version.number] = shares.get(version.number, 0) + weight
    routes = [Route(number, weight) for number, weight in shares.items()]
    # In the order of their numbers, so that a share that grows keeps the requests it had.
    return Resolved(tuple(sorted(routes, key=lambda route: route.version)), aliases, versions)


def ensure_compatible(before: Resolved, after: Resolved) -> None:
    """Refuse what would break the callers of what answers now; going back to an older version of the model is always allowed.

    Raises:
        Incompatible: with every breaking finding.
    """
    live = before.newest
    for version in after.versions.values():
        if version.model == live.model and version.number <= live.number:
            continue
        # Callers know the endpoint's name, whatever the model is called.
        contract = msgspec.structs.replace(version.contract, name=live.contract.name)
        broken = [f for f in compare(live.contract, contract).findings if f.change is Change.BREAKING]
        if broken:
            text = f"version {version.number} would break callers of version {live.number}"
            raise Incompatible(text, violations=[Violation(f.path, f.reason) for f in broken])


def _ensure_model(registry: Registry, spec: EndpointSpec) -> None:
    try:
        registry.model(spec.model)
    except NotFound as exc:
        text = f"no model named {spec.model}"
        if spec.model == spec.name:
            text += "; set `model:` if the endpoint's name differs from the model's"
        raise NotFound(f"model: {text}", violations=[Violation("model", text)]) from exc


def _version(registry: Registry, spec: EndpointSpec, reference: str, path: str, moves: Moves) -> ModelVersion:
    try:
        version = moves.get(reference) or registry.resolve(spec.model, reference)
    except NotFound as exc:
        _ensure_model(registry, spec)
        text = f"the model {spec.model} has no such version or alias"
        raise NotFound(f"{path}: {text}", violations=[Violation(path, text)]) from exc
    if version.is_retired:
        text = f"version {version.number} is retired"
        raise NotAllowedNow(f"{path}: {text}", reason=Reason.RETIRED, violations=[Violation(path, text)])
    if version.major != spec.major:
        text = f"version {version.number} has contract major {version.major}, but the endpoint promises {spec.major}"
        raise Incompatible(f"{path}: {text}", violations=[Violation(path, text)])
    return version
