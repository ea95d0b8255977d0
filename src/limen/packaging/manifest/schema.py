"""The JSON Schema of `model.yaml`, for editors: generated from the declarations in `packaging.manifest.decoder`.

What needs several keys at once (a default of the field's type, a binding to fields that exist) only the decoder checks.
"""

from __future__ import annotations

from limen.contracts.contract import Json
from limen.packaging.manifest.decoder import MANIFEST

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema() -> dict[str, Json]:
    """Return the schema as plain JSON values; the caller may change the copy it gets."""
    return {"$schema": DIALECT, "title": "Limen model package (model.yaml)"} | MANIFEST.schema()
