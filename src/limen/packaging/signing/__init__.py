"""Signatures of packages, and whom to trust."""
