"""Strict readers of model files, run before a library loads them."""
