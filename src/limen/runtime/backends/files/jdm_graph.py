"""The inputs and outputs of a whole decision, derived from what its nodes read and write and how they are connected.

A name that a node reads is an input of the decision unless a node before it has written it on every way there. Types are guesses
for the author to complete; where nothing speaks for one, and for lists and whole objects, the type is `json`, which takes anything.
Pure. Called by `backends.jdm_file`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from limen.contracts.errors import InvalidPackage
from limen.runtime.backends.files.jdm_schema import Said, read_schema
from limen.runtime.backends.files.zen_expressions import (
    ADDED,
    ANY,
    EXAMPLES,
    LIST,
    OBJECT,
    Use,
    literal_type,
    result_type,
    simple_path,
    tested_type,
    tokens,
    uses,
)

EVERYTHING: Final = "$input"
"""The name of all that a decision is asked, for one that reads nothing by a name."""
WHOLE: Final = "$result"
"""The name of the whole result, for a decision that gives a list."""
MAX_NAMES: Final = 4096
Path = tuple[str, ...]
Json = Any


class Given(msgspec.Struct, frozen=True):
    """What is known of a value that a node writes."""

    type: str
    is_certain: bool = False
    """It is there whatever the inputs are."""
    is_reached: bool = True
    """The node that writes it is asked whatever the inputs are, though it may find nothing to write."""


class Flow(msgspec.Struct, frozen=True):
    """What is there after a node."""

    written: Mapping[Path, Given] = {}
    has_inputs: bool = False
    """The inputs of the decision are passed on."""
    is_conditional: bool = False
    """A switch decides whether the node is asked."""
    is_list: bool = False
    """The node gives a list, which has no names."""


class Described(msgspec.Struct, frozen=True):
    """What a decision takes and gives: dotted names with an element type."""

    inputs: dict[str, Said]
    outputs: dict[str, Given]
    is_complete: bool
    """The outputs are all there are: no node passes on what the decision was given."""


class _Node(msgspec.Struct, frozen=True):
    """One node as the description needs it."""

    kind: str
    name: str
    content: Mapping[str, Json]

    @property
    def is_loop(self) -> bool:
        return self.content.get("executionMode") == "loop"


def describe(nodes: Iterable[Mapping[str, Json]], edges: Iterable[Mapping[str, Json]]) -> Described:
    """Return what a decision takes and gives."""
    return _Walk(nodes, edges).described()


class _Walk:
    """Goes through the nodes in the order in which the engine does."""

    def __init__(self, nodes: Iterable[Mapping[str, Json]], edges: Iterable[Mapping[str, Json]]) -> None:
        self._nodes = {
            str(n.get("id")): _Node(str(n["type"]), str(n.get("name", "")), n.get("content") or {}) for n in nodes
        }
        self._before: dict[str, list[str]] = {key: [] for key in self._nodes}
        self._after: dict[str, list[str]] = {key: [] for key in self._nodes}
        for edge in edges:
            source, target = str(edge.get("sourceId")), str(edge.get("targetId"))
            if source in self._nodes and target in self._nodes:
                self._before[target].append(source)
                self._after[source].append(target)
        self._flows: dict[str, Flow] = {}
        self._read: dict[Path, set[str]] = {}

    def described(self) -> Described:
        for key in self._order():
            self._flows[key] = flow = self._flow(key)
            if max(len(flow.written), len(self._read)) > MAX_NAMES:
                raise InvalidPackage(f"artifact: a decision may not read or write more than {MAX_NAMES} names")
        flow = self._result()
        outputs = dict(flow.written)
        if flow.is_list:
            outputs = {(WHOLE,): Given(ANY, is_certain=True)}
        said = self._said("outputNode")
        types = _collapsed({p: said[p].type if p in said else given.type for p, given in outputs.items()})
        named = {_dotted(p): msgspec.structs.replace(outputs[p], type=kind) for p, kind in types.items()}
        return Described(self._inputs(), named, not flow.has_inputs)

    def _inputs(self) -> dict[str, Said]:
        """Return what the schema says, and what is read besides."""
        said = self._said("inputNode")
        read = {path: _used(types) for path, types in self._read.items()}
        known = read | said
        types = _collapsed({path: found.type for path, found in known.items()})
        if not types:
            return {EVERYTHING: Said(ANY, is_required=False)}
        # Of an object that is read as a whole, the members' own facts say nothing any more.
        return {
            _dotted(path): known[path] if kind == known[path].type else Said(ANY, known[path].is_required, use=OBJECT)
            for path, kind in types.items()
        }

    def _said(self, kind: str) -> dict[Path, Said]:
        return {
            path: said
            for node in self._nodes.values()
            if node.kind == kind
            for path, said in read_schema(node.content).items()
        }

    def _result(self) -> Flow:
        """Return what the decision gives: what reaches an output node, and the results of nodes that nothing comes after."""
        ends = [key for key, node in self._nodes.items() if not self._after[key] and node.kind != "inputNode"]
        outputs = [key for key in ends if self._nodes[key].kind == "outputNode"]
        flow = self._joined(ends)
        if not outputs or len(outputs) == len(ends):
            return flow
        # The engine may stop at an output node before it has come to the others.
        sure = self._joined(outputs).written
        written = {
            path: msgspec.structs.replace(given, is_certain=given.is_certain and path in sure)
            for path, given in flow.written.items()
        }
        return msgspec.structs.replace(flow, written=written)

    def _order(self) -> list[str]:
        """Return the nodes so that each comes after those before it; nodes of a circle, which the engine refuses, come last."""
        waiting = {key: len(before) for key, before in self._before.items()}
        ready = [key for key, count in waiting.items() if count == 0]
        for key in ready:
            for after in self._after[key]:
                waiting[after] -= 1
                if waiting[after] == 0:
                    ready.append(after)
        return ready + [key for key in self._nodes if key not in set(ready)]

    def _joined(self, keys: Iterable[str]) -> Flow:
        """Return what is there after several nodes, some of which may not have been asked."""
        found = [(key, self._flows.get(key, Flow())) for key in keys]
        written: dict[Path, Given] = {}
        for _, flow in found:
            for path, given in flow.written.items():
                asked = not flow.is_conditional or all(path in f.written for _, f in found if f.is_conditional)
                known = written.get(path, given)
                written[path] = Given(
                    given.type if known.type == given.type else ANY,
                    (asked and given.is_certain) or (path in written and known.is_certain),
                    (asked and given.is_reached) or (path in written and known.is_reached),
                )
        return Flow(
            written,
            any(flow.has_inputs for _, flow in found),
            bool(found) and all(flow.is_conditional for _, flow in found),
            any(flow.is_list for _, flow in found),
        )

    def _flow(self, key: str) -> Flow:
        node = self._nodes[key]
        if node.kind == "inputNode":
            return Flow(has_inputs=True)
        before = self._joined(self._before[key])
        from_switch = any(self._nodes[source].kind == "switchNode" for source in self._before[key])
        before = msgspec.structs.replace(before, is_conditional=before.is_conditional or from_switch)
        if node.kind in ("switchNode", "outputNode"):
            for statement in _mappings(node.content.get("statements")):
                self._note(uses(str(statement.get("condition", ""))), before, node)
            return before
        base = self._base(node, before)
        own = self._table(node, before, base) if node.kind == "decisionTableNode" else self._lines(node, before, base)
        return _after(node, before, own)

    def _base(self, node: _Node, before: Flow) -> Path | None:
        """Return where the names of a node begin; None when it reads the items of a list, or something that is made for it."""
        text = str(node.content.get("inputField") or "")
        if not text.strip():
            return None if node.is_loop else ()
        path = simple_path(text)
        if path is not None and not node.is_loop:
            return path
        self._note((Use(use.path, LIST if node.is_loop else ANY) for use in uses(text)), before, node)
        return None

    def _table(self, node: _Node, before: Flow, base: Path | None) -> dict[Path, Given]:
        rules = _mappings(node.content.get("rules"))
        columns = _mappings(node.content.get("inputs"))
        for column in columns:
            field = str(column.get("field") or "")
            cells = [_cell(rule, column) for rule in rules]
            path = simple_path(field)
            if path is not None:
                self._note([Use(path, tested_type(cells))], before, node, base)
            else:
                self._note(uses(field), before, node, base)
            for cell in cells:
                self._note(uses(cell), before, node, base)
        last = rules[-1] if rules else {}
        is_whole = bool(rules) and all(_cell(last, column) in ("", "-") for column in columns)
        found: dict[Path, Given] = {}
        for column in _mappings(node.content.get("outputs")):
            cells = [_cell(rule, column) for rule in rules]
            for cell in cells:
                self._note(uses(cell), before, node, base)
            filled = [cell for cell in cells if cell]
            types = {_cell_type(cell) for cell in filled}
            if (path := simple_path(str(column.get("field") or ""))) is not None:
                kind = types.pop() if len(types) == 1 else ANY
                found[path] = Given(kind, is_certain=is_whole and len(filled) == len(cells))
        return found

    def _lines(self, node: _Node, before: Flow, base: Path | None) -> dict[Path, Given]:
        found: dict[Path, Given] = {}
        for line in _mappings(node.content.get("expressions")):
            text = str(line.get("value") or "")
            self._note(uses(text), before, node, base)
            if text.strip() and (path := simple_path(str(line.get("key") or ""))) is not None:
                found[path] = Given(result_type(text, self._types(before, found)), is_certain=True)
        return found

    def _types(self, before: Flow, own: Mapping[Path, Given]) -> dict[Path, str]:
        """Return the types of the names that an expression may read: inputs, what is there already, and `$.name` of its own node."""
        inputs = {path: _one(types) for path, types in self._read.items()} if before.has_inputs else {}
        written = {path: given.type for path, given in before.written.items()}
        return inputs | written | {("$", *path): given.type for path, given in own.items()}

    def _note(self, found: Iterable[Use], before: Flow, node: _Node, base: Path | None = ()) -> None:
        """Remember what a node reads, as far as it comes from outside."""
        for use in found:
            path = use.path[1:] if use.path[0] == "$root" else use.path
            if path and not path[0].startswith("$"):
                path = () if base is None else (*base, *path)
                if path and before.has_inputs and not _is_written(path, before.written):
                    self._read.setdefault(path, set()).update([use.type] if use.type else [])
            elif path[2:] and path[0] == "$nodes" and self._is_input(path[1]):
                self._read.setdefault(path[2:], set()).update([use.type] if use.type else [])

    def _is_input(self, name: str) -> bool:
        return any(node.kind == "inputNode" and node.name == name for node in self._nodes.values())


def _after(node: _Node, before: Flow, own: dict[Path, Given]) -> Flow:
    """Return what is there after a node that writes."""
    target = simple_path(str(node.content.get("outputPath") or ""))
    if node.is_loop or node.content.get("hitPolicy") == "collect":
        if target is None:
            # A loop without a path, like a table that collects, gives a list in place of names.
            return Flow(is_conditional=before.is_conditional, is_list=True)
        own = {target: Given(ANY, is_certain=True)}
    elif target is not None:
        own = {(*target, *path): given for path, given in own.items()}
    if not node.content.get("passThrough"):
        return Flow(own, is_conditional=before.is_conditional)
    return Flow({**before.written, **own}, before.has_inputs, before.is_conditional)


def _is_written(path: Path, written: Mapping[Path, Given]) -> bool:
    return any((given := written.get(path[:n])) is not None and given.is_reached for n in range(1, len(path) + 1))


def _collapsed(types: Mapping[Path, str]) -> dict[Path, str]:
    """Return the names without those that are members of another one, which is a whole object then."""
    wholes = {path[:n] for path in types for n in range(1, len(path))}
    kept = (path for path in types if not any(path[:n] in types for n in range(1, len(path))))
    return {path: ANY if path in wholes else types[path] for path in kept}


def _one(types: set[str]) -> str:
    return _used(types).type


def _used(types: set[str]) -> Said:
    """Return what the uses of a name come to; that something is added to it says less than any other use."""
    found = types - {ADDED} or types
    only = next(iter(found)) if len(found) == 1 else ANY
    return Said(ANY, False, use=only) if only in EXAMPLES else Said(only, is_required=False)


def _cell_type(cell: str) -> str:
    words = tokens(cell)
    return (literal_type(words[0]) if len(words) == 1 else None) or result_type(cell)


def _cell(rule: Mapping[str, Json], column: Mapping[str, Json]) -> str:
    return str(rule.get(str(column.get("id"))) or "").strip()


def _mappings(value: Json) -> list[Mapping[str, Json]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _dotted(path: Path) -> str:
    return ".".join(path)
