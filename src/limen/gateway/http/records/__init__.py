"""The record API: rows of named fields, unary and streamed."""
