"""Stored state: one SQL database and one blob store. Knows tables and bytes, not their meaning."""
