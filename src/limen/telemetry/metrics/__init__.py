"""Counting: instruments, their cells in shared memory, totals and the text that Prometheus reads."""
