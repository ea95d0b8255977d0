"""Model file formats, detected by content without loading them."""
