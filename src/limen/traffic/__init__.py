"""Admission and routing: decisions from numbers, without I/O."""
