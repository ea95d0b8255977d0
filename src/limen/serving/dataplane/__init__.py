"""Answers requests: routes, leases, runs the model and finishes every answer. Used by the gateways."""
