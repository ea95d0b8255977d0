"""Strict readers of model files, which run before a library loads them."""
