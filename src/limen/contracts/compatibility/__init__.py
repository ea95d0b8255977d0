"""Compares two contracts from the callers' point of view."""
