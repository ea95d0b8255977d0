"""The protocol front ends of the data plane: one package per protocol. They translate and decide nothing.

The gateways do not know each other; what they share is below them, in `serving` and `contracts`.
"""
