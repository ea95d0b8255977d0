"""Keeps the processes of a server: starts them, hears them, replaces and stops them."""
