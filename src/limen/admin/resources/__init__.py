"""Handlers of the management API, one resource a file."""
