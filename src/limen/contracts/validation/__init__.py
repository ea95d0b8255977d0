"""Contracts compiled to checks of tensors and records."""
