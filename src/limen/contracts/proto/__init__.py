"""Contracts as Protobuf definitions."""
