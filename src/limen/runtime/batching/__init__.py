"""Batches requests that arrive while the model is busy."""
