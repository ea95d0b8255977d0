"""The inline placement: the model runs inside the gateway worker, where every microsecond counts."""

from limen.runtime.placement.inline.placement import InlinePlacement
from limen.runtime.placement.inline.predictor import InlinePredictor

__all__ = ["InlinePlacement", "InlinePredictor"]
