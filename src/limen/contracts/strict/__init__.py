"""Reads texts that a stranger wrote: JSON, YAML and patterns, bounded in time and memory."""
