"""Model file formats, told apart by content without loading them."""
