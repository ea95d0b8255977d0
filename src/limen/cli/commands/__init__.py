"""The commands of `limen`, one family a file."""
