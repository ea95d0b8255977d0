"""Converts messages of one version's typed service to and from Limen's request and response.

Made once for each loaded version by `typed`. What a request holds is checked by the contract check that every protocol uses; here
its findings only get the paths that callers of named fields know: `instances[3].income`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from limen.contracts.contract import Contract
from limen.contracts.errors import MAX_VIOLATIONS, InvalidArgument, Reason, Violation
from limen.contracts.inference import InferenceResponse, Parameter
from limen.contracts.names import parse_request_id
from limen.contracts.oip.wire import MAX_BYTES_ELEMENT, check_element_sizes
from limen.contracts.proto.descriptor import file_descriptor
from limen.contracts.tensors import Array
from limen.contracts.validation.tensors import ContractCheck
from limen.gateway.grpc.messages import parse
from limen.gateway.grpc.oip.parameters import TYPED, Options, read_parameters
from limen.gateway.grpc.typed.columns import column_of
from limen.gateway.grpc.typed.layout import layout_of
from limen.gateway.grpc.typed.outputs import output_column_of
from limen.runtime.versions.fallback import MARK

_ELEMENT: Final = re.compile(r"(\w+)\[(\d+)\]")
"""How the contract check names an element of a tensor: the field, its row, and the rest."""
_UNKNOWN: Final = "has a field unknown to this version of the model"


class TypedRequest(msgspec.Struct, gc=False):
    """What a PredictRequest holds: one checked tensor for each input field."""

    inputs: dict[str, Array]
    rows: int = 0
    parameters: Mapping[str, Parameter] = {}
    options: Options = TYPED


class Opened(msgspec.Struct, gc=False):
    """A PredictRequest that was parsed."""

    message: Any
    """The part of it that is not in `inputs`."""
    data: bytes
    """The bytes of `message`."""
    size: int
    """The bytes of the whole request."""
    inputs: dict[str, Array]
    """The tensors, if the rows were read without protobuf."""
    rows: int
    """How many rows these have; 0 when `message` has them."""

    @property
    def id(self) -> str:
        """What the caller calls the request."""
        given: str = self.message.id
        return given


class TypedCodec:
    """Reads requests and writes answers of one version. Immutable; shared by all calls."""

    def __init__(self, contract: Contract, endpoint: str) -> None:
        """Build the messages and prepare a plan for each field."""
        self.contract = contract
        file = file_descriptor(contract, endpoint)
        pool = DescriptorPool()
        pool.Add(file)
        self._request, self._response = (
            GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))
            for name in ("PredictRequest", "PredictResponse")
        )
        self._limit = contract.batching.max_request_rows
        self._columns = tuple(column_of(f) for f in contract.inputs)
        self._input_layout = layout_of(contract.inputs, "inputs")
        self._outputs = tuple(output_column_of(f) for f in contract.outputs)
        self._names = {f.name for f in contract.outputs}
        self._output_layout = layout_of(contract.outputs, "outputs")

    def open(self, data: bytes) -> Opened:
        """Return the request that `data` holds as it came, so that its id is known whatever else is wrong.

        Raises:
            InvalidArgument: it is not a PredictRequest.
        """
        inputs, rows, rest = self._input_layout.read(data) if self._input_layout is not None else ({}, 0, data)
        message: Any = parse(self._request, rest) if rest else self._request()
        if rows and message.instances:  # the rows are not all of one form
            rows, rest, message = 0, data, parse(self._request, data)
        return Opened(message, rest, len(data), inputs, rows)

    def decode(self, opened: Opened, check: ContractCheck) -> TypedRequest:
        """Return an opened request, its inputs held against the contract.

        Raises:
            InvalidArgument: with every mistake found in presence and form, or else the first in the values.
        """
        message, inputs = opened.message, opened.inputs
        self._check_unknown(opened)
        self._check_rows(opened.rows or len(message.instances))
        if not opened.rows:
            inputs = self._read(message.instances[:])
        if message.id:
            parse_request_id(message.id)
        request = TypedRequest(inputs)
        if message.parameters:
            request.parameters, request.options = read_parameters(message.parameters, is_typed=True)
        try:
            if opened.size > MAX_BYTES_ELEMENT:
                check_element_sizes(inputs)
            request.rows = check.check_inputs(inputs)
        except InvalidArgument as exc:
            raise _by_row(exc) from None
        return request

    def encode(self, response: InferenceResponse, request_id: str) -> bytes:
        """Return a serialised PredictResponse with every output of the answer."""
        answer: Any = self._response(
            id=request_id,
            model_name=response.model_name,
            model_version=response.model_version,
            fallback=str(response.parameters.get(MARK, "")) if response.parameters else "",
        )
        outputs = response.outputs
        if self._output_layout is not None and outputs.keys() == self._names:
            rest: bytes = answer.SerializeToString()
            return self._output_layout.write(outputs, len(next(iter(outputs.values())))) + rest
        add = answer.predictions.add
        rows = [add() for _ in range(len(next(iter(outputs.values()))))]
        for column in self._outputs:
            if column.name in outputs:  # a fallback to another version may give fewer
                column.write(outputs[column.name], rows)
        whole: bytes = answer.SerializeToString()
        return whole

    def _read(self, rows: Sequence[Any]) -> dict[str, Array]:
        found: list[Violation] = []
        inputs = {column.name: column.read(rows, found) for column in self._columns}
        if found:
            reason = Reason.INPUT_SET if "required" in found[0].reason else Reason.VALUE
            raise InvalidArgument.of(found[:MAX_VIOLATIONS], reason)
        return inputs

    def _check_rows(self, rows: int) -> None:
        if not 0 < rows <= self._limit:
            text = f"must have 1 to {self._limit} rows, got {rows}"
            raise InvalidArgument.at("instances", text, Reason.BATCH_LIMIT)

    def _check_unknown(self, opened: Opened) -> None:
        """Refuse fields that this version has no name for: like a misspelt name in a record, they would go unnoticed."""
        if not opened.data:
            return
        opened.message.DiscardUnknownFields()
        # The usual way to write a message is the shortest one; only others need a closer look.
        if opened.message.ByteSize() == len(opened.data):
            return
        whole: Any = parse(self._request, opened.data)
        found = [Violation("", _UNKNOWN)] if len(UnknownFieldSet(whole)) else []
        found += [
            Violation(f"instances[{i}]", _UNKNOWN) for i, row in enumerate(whole.instances) if len(UnknownFieldSet(row))
        ]
        if found:
            raise InvalidArgument.of(found[:MAX_VIOLATIONS], Reason.UNKNOWN_FIELD)


def _by_row(error: InvalidArgument) -> InvalidArgument:
    """Return an error of the contract check with paths into the rows of the message."""
    found = [Violation(_ELEMENT.sub(r"instances[\2].\1", v.path, count=1), v.reason) for v in error.violations]
    return InvalidArgument.of(found, error.reason) if found else error
