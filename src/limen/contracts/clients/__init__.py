"""Contracts as generated clients."""
