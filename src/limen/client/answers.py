"""A client's answers: the outputs in the form of the request, and the version that answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from limen.contracts.errors import InvalidArgument

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # its stubs are a package of their own

    from limen.client.forms import Given, Record, TensorType
    from limen.contracts.contract import Json
    from limen.contracts.tensors import Array

    Outputs: TypeAlias = dict[str, Json] | list[dict[str, Json]] | dict[str, Array] | pd.DataFrame


class Answer:
    """One answer, or one part of a stream of them."""

    __slots__ = ("_given", "_rows", "_tensors", "_types", "is_fallback", "model", "request_id", "version")

    def __init__(
        self,
        given: Given,
        *,
        model: str,
        version: str,
        request_id: str,
        is_fallback: bool,
        rows: Sequence[Record] | None,
        tensors: dict[str, Array] | None,
        types: Mapping[str, TensorType],
    ) -> None:
        """Made by a client, with the outputs as rows or as tensors."""
        self._given = given
        self._rows = rows
        self._tensors = tensors
        self._types = types
        self.model = model
        """Name of the endpoint that answered."""
        self.version = version
        """Number of the version that answered."""
        self.request_id = request_id
        """The request id shown in the server's logs."""
        self.is_fallback = is_fallback
        """Whether the declared fallback answered in place of the model."""

    def __repr__(self) -> str:
        return f"<Answer of {self.model} version {self.version}>"

    @property
    def outputs(self) -> Outputs:
        """The outputs in the form of the inputs: a record, a list of them, a mapping of arrays or a data frame."""
        form = self._given.form.value
        if form == "record":
            return self.record
        if form == "records":
            return self.as_records()
        return self.as_arrays() if form == "arrays" else self.as_frame()

    @property
    def record(self) -> dict[str, Json]:
        """The one row there is.

        Raises:
            InvalidArgument: there are more, or none.
        """
        rows = self.as_records()
        if len(rows) != 1:
            raise InvalidArgument(f"the answer has {len(rows)} rows; use as_records()")
        return rows[0]

    def as_records(self) -> list[dict[str, Json]]:
        """Return the outputs as rows of plain Python values; `bytes` are base64 text, NaN is None."""
        from limen.contracts.validation import json_values
        from limen.contracts.validation.records import as_rows

        if self._rows is not None:
            return [dict(row) for row in self._rows]
        rows = as_rows(self._tensors or {})
        kinds = {name: self._types.get(name) for name in self._tensors or {}}
        axes = {name: (self._tensors or {})[name].ndim - 1 for name, kind in kinds.items() if kind and kind.is_json}
        json_values.in_rows(rows, axes)
        return rows

    def as_arrays(self) -> dict[str, Array]:
        """Return the outputs as arrays with the rows along the first axis.

        They have the model's types when the question was sent as tensors, else those that NumPy gives to plain values.
        """
        from limen.client.forms import arrays_of

        return dict(self._tensors or {}) if self._rows is None else arrays_of(self._rows, self._types)

    def as_frame(self) -> pd.DataFrame:
        """Return the outputs as a data frame, with the index of the one that was asked with.

        Raises:
            ModuleNotFoundError: pandas is not installed (the extra `pandas`).
        """
        from limen.client.forms import frame_of

        index: Any = None if self._given.frame is None else self._given.frame.index
        return frame_of(self.as_arrays(), index)
