"""The process placement: each version in a process of its own. A crash takes that version and nothing else."""

from limen.runtime.placement.process.placement import ProcessPlacement
from limen.runtime.placement.process.predictor import ProcessPredictor

__all__ = ["ProcessPlacement", "ProcessPredictor"]
