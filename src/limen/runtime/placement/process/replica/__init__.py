"""The replica process."""
