"""Where state lives: one SQL database and one store of blobs. Knows tables and bytes, not what they mean."""
