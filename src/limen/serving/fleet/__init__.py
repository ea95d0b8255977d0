"""Decides which versions, replicas and gateways there should be: facts in, decisions out, no input or output."""
