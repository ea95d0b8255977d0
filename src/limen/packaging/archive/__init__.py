"""Package archives: building, opening, indexing and checking them."""
