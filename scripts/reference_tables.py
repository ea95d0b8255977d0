"""Tables of the reference that are made from the code, so that they cannot drift from it. `make tables` writes them into the pages.

A page under `docs/reference` has a table of `TABLES` between `<!-- table: NAME -->` and `<!-- end of table -->`. The tests refuse a
page whose tables are not what the code says.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec

from limen.contracts.contract import Batching, Contract, Example, Field, Slo, Tolerance
from limen.contracts.errors import ErrorCode
from limen.contracts.outcomes import CLASSES
from limen.contracts.serving import Queue, Replicas, Resources, Serving
from limen.contracts.strict import rules
from limen.contracts.tensors import BY_NAME
from limen.gateway.engine.errors import STATUS as HTTP_STATUS
from limen.gateway.grpc.status import STATUS as GRPC_STATUS
from limen.packaging.manifest.decoder import MANIFEST
from limen.packaging.manifest.values import Bind, Fallback, Manifest, OutputBinding
from limen.settings import FLAGS, is_live
from limen.settings import SECTIONS as SETTINGS
from limen.settings.sources import variables_of
from limen.settings.values import rule
from limen.traffic.endpoints import ENDPOINT

PAGES = Path(__file__).parents[1] / "docs" / "reference"
MARKED = re.compile(r"^<!-- table: ([a-z-]+) -->\n(.*?)^<!-- end of table -->$", re.MULTILINE | re.DOTALL)
SECTIONS: dict[str, tuple[tuple[str, ...], type[Any] | None]] = {
    "manifest": ((), None),
    "field": (("inputs",), Field),
    "bind": (("bind",), Bind),
    "bind-output": (("bind", "outputs"), OutputBinding),
    "slo": (("slo",), Slo),
    "batching": (("batching",), Batching),
    "serving": (("serving",), Serving),
    "replicas": (("serving", "replicas"), Replicas),
    "queue": (("serving", "queue"), Queue),
    "resources": (("serving", "resources"), Resources),
    "fallback": (("fallback",), Fallback),
    "example": (("examples",), Example),
    "tolerance": (("tolerance",), Tolerance),
}
"""The mappings of `model.yaml`: the keys that lead there, and the type that holds the defaults."""
FIXED_LIMITS = (
    ("Longest request target", "limen.gateway.engine.routes", "MAX_TARGET_BYTES", "bytes"),
    ("Levels of nested JSON", "limen.contracts.strict.pieces", "MAX_DEPTH", ""),
    ("Body from which it is read in pieces", "limen.contracts.strict.pieces", "LARGE_TEXT", "bytes"),
    ("Anything beside the data in such a body", "limen.gateway.http.oip.large_tensors", "MAX_BESIDE", "bytes"),
    ("A generate body", "limen.gateway.http.records.streams", "MAX_GENERATE_BYTES", "bytes"),
    ("Inputs of one REST request", "limen.gateway.http.oip.tensors", "MAX_INPUTS", ""),
    ("Inputs of one gRPC request", "limen.gateway.grpc.oip.codec", "MAX_INPUTS", ""),
    ("Requested outputs", "limen.serving.dataplane.selection", "MAX_REQUESTED_OUTPUTS", ""),
    ("Request parameters", "limen.contracts.oip.parameters", "MAX_PARAMETERS", ""),
    ("Dimensions of a tensor", "limen.contracts.oip.wire", "MAX_DIMENSIONS", ""),
    ("Elements of a tensor", "limen.contracts.oip.wire", "MAX_ELEMENTS", ""),
    ("Numeric tensors of a large request", "limen.contracts.tensors", "MAX_TENSOR_BYTES", "bytes"),
    ("Texts and bytes elements of a request", "limen.contracts.tensors", "MAX_TEXTS", ""),
    ("One BYTES element", "limen.contracts.oip.wire", "MAX_BYTES_ELEMENT", "bytes"),
    ("Elements of an output to classify", "limen.contracts.oip.classification", "MAX_ELEMENTS", ""),
    ("A caller's deadline, which is cut to this", "limen.contracts.inference", "MAX_DEADLINE_S", "s"),
    ("Mistakes named in one error", "limen.contracts.errors", "MAX_VIOLATIONS", ""),
    ("Fields in one list of `model.yaml`", "limen.packaging.manifest.fields", "MAX_FIELDS", ""),
    ("A file of examples", "limen.packaging.manifest.decoder", "MAX_EXAMPLES_BYTES", "bytes"),
    ("Files of a package", "limen.packaging.paths", "MAX_FILES", ""),
    ("A file of a package", "limen.packaging.archive.index", "MAX_FILE_BYTES", "bytes"),
)
"""Limits that are constants: what they bound, where they are, and their unit."""


def filled(markdown: str) -> str:
    """Return a page with its tables as they are now."""
    return MARKED.sub(
        lambda mark: f"<!-- table: {mark[1]} -->\n\n{TABLES[mark[1]]()}\n\n<!-- end of table -->", markdown
    )


def manifest_table(section: str) -> str:
    """Return the keys of one mapping of `model.yaml`."""
    keys, holder = section_of(section)
    rows = []
    for key in keys.keys:
        default = "**required**" if key.required else default_of(key.name, holder)
        rows.append((f"`{key.name}`", words(key.rule), default, f"{key.doc[:1].upper()}{key.doc[1:]}."))
    return table(("key", "value", "default", "meaning"), rows)


def endpoint_table() -> str:
    """Return the keys of `endpoint.yaml`."""
    rows = [
        (f"`{k.name}`", words(k.rule), "**required**" if k.required else "–", f"{k.doc[:1].upper()}{k.doc[1:]}.")
        for k in ENDPOINT.keys
    ]
    return table(("key", "value", "default", "meaning"), rows)


def section_of(section: str) -> tuple[rules.Keys, type[Any] | None]:
    """Return the keys of a mapping of `model.yaml` and the type that holds their defaults."""
    path, holder = SECTIONS[section]
    rule: Any = MANIFEST
    for step in path:
        rule = next(key.rule for key in inner_keys(rule).keys if key.name == step)
    return inner_keys(rule), holder


def inner_keys(rule: Any) -> rules.Keys:
    """Return the mapping with fixed keys that is a rule, or within it."""
    while not isinstance(rule, rules.Keys):
        rule = getattr(rule, "item", None) or getattr(rule, "mapping", None) or rule.items
    return rule


def words(rule: Any) -> str:
    """Return what a rule takes, in words."""
    match rule:
        case rules.Text(rule=form):
            return form or "text"
        case rules.Flag():
            return "true or false"
        case rules.Number():
            bounds = [(rule.above, "above"), (rule.low, "from"), (rule.high, "to")]
            kind = "whole number" if rule.whole else "number"
            return " ".join([kind, *(f"{word} {bound:,}" for bound, word in bounds if bound is not None)])
        case rules.OneOf(words=choices) if set(choices) == set(BY_NAME):
            return "a [type](#types)"
        case rules.OneOf(words=choices):
            return " · ".join(f"`{choice}`" for choice in choices)
        case rules.Anything():
            return "any value"
        case rules.ListOf(item=item):
            each = words(item)
            return f"list of {'mappings' if isinstance(item, rules.Keys) else each[:1].lower() + each[1:]}"
        case rules.MapOf(item=item):
            return f"mapping to {words(item)}"
        case rules.ByKind(words=choice):
            return choice
        case rules.Keys():
            return "mapping"
        case _:  # a rule of one list only; its docstring says what it takes
            promise = (type(rule).__doc__ or "").partition("\n")[0].removesuffix(".")
            return promise.partition(": ")[2] or promise


def default_of(key: str, holder: type[Any] | None) -> str:
    """Return the default of an optional key as it is written in YAML; a dash when leaving it out means nothing is said."""
    holders = (Contract, Manifest) if holder is None else (holder,)
    for struct in holders:
        found = next((f for f in msgspec.structs.fields(struct) if f.name == key), None)
        if found is not None:
            return yaml_word(found.default)
    raise LookupError(f"no default for {key}")


def yaml_word(value: Any) -> str:
    """Return a default as YAML in a code span."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (int, float)) or (isinstance(value, str) and value):
        return f"`{value}`"
    return "–"


def type_table() -> str:
    """Return the element types with their OIP names."""
    rows = [(f"`{t.name}`", f"`{t.wire}`", t.size or "variable") for t in BY_NAME.values()]
    return table(("type", "in the protocol", "bytes an element"), rows)


def section_table(section: str) -> str:
    """Return the settings of one table of `limen.toml`, with what their docstrings say."""
    kind = SETTINGS[section]
    said = texts_of(kind)
    rows = []
    for field in msgspec.structs.fields(kind):
        key = f"{section}.{field.name}"
        others = [*variables_of(key)[:-1], *([FLAGS[key]] if key in FLAGS else [])]
        rows.append(
            (
                f"`{field.name}`",
                toml_word(getattr(kind(), field.name)),
                rule(field.type).removeprefix("must be ").replace(" or ", " · "),
                "yes" if is_live(key) else "",
                ", ".join(f"`{name}`" for name in others),
                said[field.name],
            )
        )
    return table(("setting", "default", "value", "live", "also", "meaning"), rows)


def toml_word(value: Any) -> str:
    """Return a default as TOML in a code span."""
    return f"`{msgspec.json.encode(msgspec.to_builtins(value, enc_hook=str)).decode()}`"


def texts_of(kind: type[Any]) -> dict[str, str]:
    """Return the text under each field of a class or member of an enum, on one line."""
    [definition] = ast.parse(dedent(inspect.getsource(kind))).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    found = {}
    for item, after in pairwise(body):
        name = (
            item.target
            if isinstance(item, ast.AnnAssign)
            else item.targets[0]
            if isinstance(item, ast.Assign)
            else None
        )
        if isinstance(name, ast.Name) and isinstance(after, ast.Expr):
            found[name.id] = " ".join(ast.literal_eval(after.value).split())
    return found


def limits_table() -> str:
    """Return the limits that are constants of the code."""
    rows = [(what, f"{getattr(import_module(module), name):,} {unit}") for what, module, name, unit in FIXED_LIMITS]
    return table(("what", "at most"), rows)


def status_table() -> str:
    """Return every canonical code with its status on both protocols."""
    said = texts_of(ErrorCode)
    rows = [
        (f"`{code}`", HTTP_STATUS[code], f"`{GRPC_STATUS[code].name}`", f"`{CLASSES[code]}`", said[code.name])
        for code in ErrorCode
    ]
    return table(("outcome", "HTTP", "gRPC", "class", "meaning"), rows)


def table(head: tuple[str, ...], rows: Any) -> str:
    """Return a Markdown table."""

    def lines() -> Iterator[str]:
        for row in (head, ("---",) * len(head), *rows):
            yield "| " + " | ".join(str(cell).strip().replace("|", "\\|") for cell in row) + " |"

    return "\n".join(lines())


TABLES: dict[str, Callable[[], str]] = {
    **{f"keys-{name}": (lambda name=name: manifest_table(name)) for name in SECTIONS},  # type: ignore[misc]
    **{f"settings-{name}": (lambda name=name: section_table(name)) for name in SETTINGS},  # type: ignore[misc]
    "keys-endpoint": endpoint_table,
    "types": type_table,
    "fixed-limits": limits_table,
    "statuses": status_table,
}


def main() -> None:
    """Write the tables into the pages."""
    for page in sorted(PAGES.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"tables: {page.name}")


if __name__ == "__main__":
    main()
