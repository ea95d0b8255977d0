"""Metrics: instruments, their cells in shared memory, totals and the Prometheus text."""
