"""From an operator's wish to the registry: which versions an endpoint may have, and what a spec resolves to."""
