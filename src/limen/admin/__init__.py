"""The management API: models, versions, aliases and endpoints over HTTP. docs/reference/management-api.md is its reference.

Translates and decides nothing: rules are in `management.catalogue` and `publishing.publisher`. Built by `limen.app`, in the control process
of a server and in the command line when no server runs.
"""
