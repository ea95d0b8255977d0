"""The inline placement: the model runs inside the gateway worker, where every microsecond counts."""

from limen.runtime.placement.inline.placement import InlinePlacement
from limen.runtime.placement.inline.sink import InlineSink

__all__ = ["InlinePlacement", "InlineSink"]
