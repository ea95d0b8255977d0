"""The documents of a server: OpenAPI, the docs page, contracts."""
