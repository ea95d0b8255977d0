"""The control process: says what is wanted, and tells what is so."""
