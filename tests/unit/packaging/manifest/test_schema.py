"""The JSON Schema for editors agrees with the decoder."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from limen.contracts.contract import Field
from limen.contracts.serving import Queue, Replicas, Resources, Serving
from limen.contracts.strict.rules import Report
from limen.contracts.strict.yaml import read_yaml
from limen.packaging.manifest.decoder import MANIFEST, decode_manifest
from limen.packaging.manifest.fields import FIELD
from limen.packaging.manifest.schema import manifest_schema
from limen.packaging.manifest.serving import FALLBACK, QUEUE, REPLICAS, RESOURCES, SERVING
from limen.packaging.manifest.values import Fallback

TESTDATA = Path(__file__).parent / "testdata"
TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def problems(schema, value, path=""):
    """Yield what a JSON Schema validator would say; knows the keywords the schema uses and no other."""
    unknown = schema.keys() - {
        *("$schema", "title", "description", "type", "properties", "additionalProperties", "required", "items"),
        *("propertyNames", "anyOf", "enum", "pattern", "maxLength", "minItems", "maxItems", "not", "const"),
        *("minimum", "maximum", "exclusiveMinimum"),
    }
    assert not unknown
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, TYPES[k]) and (k == "boolean") == isinstance(value, bool) for k in kinds):
        yield f"{path}: type"
        return
    if "anyOf" in schema and all(list(problems(option, value, path)) for option in schema["anyOf"]):
        yield f"{path}: anyOf"
    if "not" in schema and not list(problems(schema["not"], value, path)):
        yield f"{path}: not"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: const"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: enum"
    yield from _bounds(schema, value, path)
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from problems(schema.get("items", {}), item, f"{path}[{i}]")
    if isinstance(value, dict):
        yield from _members(schema, value, path)


def _bounds(schema, value, path):
    if isinstance(value, str):
        if re.search(schema.get("pattern", ""), value) is None or len(value) > schema.get("maxLength", 1e9):
            yield f"{path}: text"
    elif isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1e9):
            yield f"{path}: items"
    elif isinstance(value, (int, float)):
        low, high = schema.get("minimum", -1e999), schema.get("maximum", 1e999)
        if not low <= value <= high or value <= schema.get("exclusiveMinimum", -1e999):
            yield f"{path}: bounds"


def _members(schema, value, path):
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    yield from (f"{path}.{key}: required" for key in schema.get("required", []) if key not in value)
    for key, item in value.items():
        yield from problems(schema.get("propertyNames", {}), key, f"{path}.{key}")
        if others is False and key not in properties:
            yield f"{path}.{key}: unknown"
        else:
            yield from problems(properties.get(key, others), item, f"{path}.{key}")


def load(path):
    report = Report()
    value = read_yaml(path.read_bytes(), report)
    assert report.violations == []
    return value


@pytest.mark.parametrize("path", sorted(TESTDATA.glob("*.good.yaml")), ids=lambda p: p.name)
def test_the_schema_accepts_what_the_decoder_accepts(path):
    decode_manifest(path.read_bytes())
    assert list(problems(manifest_schema(), load(path))) == []


@pytest.mark.parametrize(
    "name",
    [
        "not_a_mapping",
        "unknown_keys",
        "required_keys",
        "wrong_kinds",
        "no_fields",
        "field_names",
        "types",
        "shapes",
        "booleans",
        "sensitivity",
        "batching",
        "tolerance",
        "slo",
        "serving",
        "serving_kinds",
        "serving_sizes",
        "serving_not_a_mapping",
        "fallback_version",
        "fallback_version_zero",
        "fallback_not_a_record",
        "backend",
        "model_name",
    ],
)
def test_the_schema_refuses_what_it_can_see(name):
    assert list(problems(manifest_schema(), load(TESTDATA / f"{name}.bad.yaml")))


def test_unknown_keys_are_refused_at_every_level():
    found = set(problems(manifest_schema(), load(TESTDATA / "unknown_keys.bad.yaml")))
    assert {".licenze: unknown", ".batch: unknown"} <= found
    assert ".bind.outputs.s: anyOf" in set(problems(manifest_schema(), load(TESTDATA / "bind_outputs.bad.yaml")))


def test_the_schema_is_json_and_explains_every_key():
    schema = msgspec.json.decode(msgspec.json.encode(manifest_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert all(p["description"] for p in schema["properties"].values())


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (Field, FIELD),
        (Serving, SERVING),
        (Replicas, REPLICAS),
        (Queue, QUEUE),
        (Resources, RESOURCES),
        (Fallback, FALLBACK),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_every_part_of_a_value_has_a_key(kind, keys):
    """A part added to what a manifest holds cannot be forgotten here."""
    assert {f.name for f in msgspec.structs.fields(kind)} == set(keys.names)


def test_the_keys_of_the_manifest_are_those_of_the_issue():
    assert set(MANIFEST.names) == {
        *("name", "major", "title", "description", "owner", "licence", "tags", "task", "backend", "artifact", "inputs"),
        *(
            "outputs",
            "bind",
            "slo",
            "batching",
            "serving",
            "environment",
            "fallback",
            "examples",
            "tolerance",
            "reference",
        ),
    }
