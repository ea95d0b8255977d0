"""Signatures of packages, and which keys to trust."""
