"""Limen's telemetry: logs and metrics."""
