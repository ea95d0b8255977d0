"""Compares two contracts for the sake of their callers."""
