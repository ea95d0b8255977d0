"""The faces of the data plane: one package per protocol, each translates and decides nothing.

The gateways do not know each other; what they share is below them, in `serving` and `contracts`.
"""
