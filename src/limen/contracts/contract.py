"""The contract of a model: its inputs, its outputs and its owner's promises.

These are plain immutable values. `packaging.manifest.values` builds them from `model.yaml`; `contracts.validation.records` and
`contracts.validation.tensors` compile them into validators; `contracts.openapi.document` and `contracts.proto.text` describe them to callers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from limen.contracts.tensors import BY_NAME, ElementType, Kind

Scalar = bool | int | float | str
Json = Any
"""A decoded JSON value."""


class Sensitivity(StrEnum):
    """How carefully a field must be kept."""

    PUBLIC = "public"
    """May appear anywhere."""
    INTERNAL = "internal"
    """May appear in answers and in logs inside the organisation."""
    PERSONAL = "personal"
    """About a person: never in logs, errors, metrics or traces."""
    SECRET = "secret"
    """Never leaves the process except to the caller who sent it."""


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One named input or output.

    `shape` leaves out the batch axis: `()` is one value a row, `(30,)` thirty, `(-1,)` as many as the caller sends.
    """

    name: str
    """What records, `.proto` and Python code call it: an identifier."""
    type: str
    shape: tuple[int, ...] = ()
    wire: str = ""
    """What OIP calls the tensor, when that is another name; callers of Triton and other servers know it so."""
    number: int | None = None
    """Protobuf field number; its place in the list, from 1, when not given."""
    title: str = ""
    description: str = ""
    unit: str = ""
    minimum: float | int | None = None
    maximum: float | int | None = None
    enum: tuple[Scalar, ...] | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    nullable: bool = False
    """A missing value is allowed, as a whole and as an element: `null` in JSON, NaN in a float tensor, empty text in a string one."""
    default: Json = msgspec.UNSET
    """Used when a record omits the field; a field without a default is required unless it is nullable."""
    finite: bool = True
    """NaN and infinity are refused."""
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    examples: tuple[Json, ...] = ()
    labels: tuple[str, ...] = ()
    """Names of the classes along the last axis (outputs)."""

    @property
    def element(self) -> ElementType:
        """The element type."""
        return BY_NAME[self.type]

    @property
    def datatype(self) -> str:
        """The OIP datatype."""
        return BY_NAME[self.type].wire

    @property
    def wire_name(self) -> str:
        """What OIP calls the tensor."""
        return self.wire or self.name

    @property
    def is_blank_missing(self) -> bool:
        """Whether empty text is a missing value of an input, as it is unless the contract names it: in `enum`, or by `min_length: 0`."""
        return self.nullable and self.element.kind is Kind.TEXT and self.min_length != 0 and "" not in (self.enum or ())

    @property
    def is_required(self) -> bool:
        """Whether a record must carry the field."""
        return self.default is msgspec.UNSET and not self.nullable

    @property
    def has_default(self) -> bool:
        """Whether a value stands in for the field when it is left out."""
        return self.default is not msgspec.UNSET and self.default is not None

    @property
    def is_scalar(self) -> bool:
        """Whether one row holds exactly one value."""
        return not self.shape

    @property
    def is_float(self) -> bool:
        """Whether elements are floating-point numbers."""
        return self.element.kind is Kind.FLOAT

    @property
    def is_json(self) -> bool:
        """Whether elements are JSON values of any form."""
        return self.type == "json"

    @property
    def batched_shape(self) -> tuple[int, ...]:
        """The shape of the tensor inside Limen, with -1 for the batch axis first."""
        return (-1, *self.shape)


class Slo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the owner promises about time."""

    p95_ms: float | None = None
    """95 % of answers arrive within this time many milliseconds."""
    deadline_ms: float | None = None
    """An answer later than this is useless; the default deadline of a request that names none."""


class Batching(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many rows may travel together."""

    max_rows: int = 1024
    """Rows in one run of the model; larger requests are run in parts."""
    max_request_rows: int = 65_536
    """Rows in one request; more are refused."""
    is_batched: bool = True
    """Whether tensors have the batch as their first axis. Without it a request is one run of the model, and a record one request."""
    max_wait_ms: float = 0.0
    """How long rows may wait to be batched while the model is idle. 0: never; what arrives while it is busy leaves together anyway."""
    merge: bool | None = None
    """Whether requests of different callers may share a run. None: as a test of the loaded model shows. False: never. True: also when the
    test could not tell; a test that shows that rows change each other's answers still keeps them apart."""


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One golden example: a record and, when known, the answer it must give."""

    name: str = ""
    inputs: dict[str, Json] = {}
    outputs: dict[str, Json] = {}


class Tolerance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a number may differ from its golden value: `|a - b| <= absolute + relative * |b|`."""

    absolute: float = 1e-5
    relative: float = 1e-4


class Contract(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model promises. Immutable; one per version."""

    name: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    major: int = 1
    """Increases with breaking changes; each major has a separate endpoint."""
    title: str = ""
    description: str = ""
    owner: str = ""
    licence: str = ""
    tags: tuple[str, ...] = ()
    task: str = ""
    slo: Slo = Slo()
    batching: Batching = Batching()
    examples: tuple[Example, ...] = ()
    tolerance: Tolerance = Tolerance()

    def wire_shape(self, field: Field) -> tuple[int, ...]:
        """Return the shape that a field's tensor has in OIP; -1 is variable."""
        return field.batched_shape if self.batching.is_batched else field.shape

    def input(self, name: str) -> Field | None:
        """Return the input field of that name, or None."""
        return next((f for f in self.inputs if f.name == name), None)

    def output(self, name: str) -> Field | None:
        """Return the output field of that name, or None."""
        return next((f for f in self.outputs if f.name == name), None)
