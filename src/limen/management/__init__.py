"""From a requested change to the registry: which versions an endpoint may have, and what a spec resolves to."""
