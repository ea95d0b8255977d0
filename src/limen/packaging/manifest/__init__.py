"""`model.yaml`: reading, checking, writing and editing it."""
