"""What may come in, and which version answers it: decisions over numbers, without I/O."""
