"""The process placement: each version in separate processes. A crash ends one replica and nothing else.

`ProcessPlacement` uses replicas that somebody else keeps running, `OwnReplicas` starts its own.
"""

from limen.runtime.placement.process.own import Launched, OwnPool, OwnReplicas, launch
from limen.runtime.placement.process.placement import ProcessPlacement
from limen.runtime.placement.process.pool.pool import ReplicaPool
from limen.runtime.placement.process.pool.suspects import fingerprint
from limen.runtime.placement.process.wire.start import COMMAND, OOM_STATUS, Ready, ReplicaStart, Said

__all__ = [
    "COMMAND",
    "OOM_STATUS",
    "Launched",
    "OwnPool",
    "OwnReplicas",
    "ProcessPlacement",
    "Ready",
    "ReplicaPool",
    "ReplicaStart",
    "Said",
    "fingerprint",
    "launch",
]
