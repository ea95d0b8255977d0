"""Binds a contract's fields to an artifact's tensors."""
