"""The registry: models, immutable versions, aliases, tags and evidence."""
