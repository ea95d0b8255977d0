"""Contracts as OpenAPI documents and JSON Schema."""
