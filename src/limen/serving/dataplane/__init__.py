"""Answers requests: routes, leases, asks the model and finishes every answer. Used by the gateways."""
