"""The process placement: each version in separate processes. A crash ends one replica and nothing else.

`placement.ProcessPlacement` uses replicas that somebody else keeps running, `own.OwnReplicas` starts its own. Nothing is imported here: a
replica has no use for what talks to it.
"""
