"""What exists: models, immutable versions, what they are called and what was found out about them."""
