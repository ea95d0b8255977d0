"""Strict readers of untrusted text: JSON, YAML and patterns, bounded in time and memory."""
