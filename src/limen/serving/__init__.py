"""Flows: one spine per direction. `dataplane` answers requests; the rest prepares what it serves."""
