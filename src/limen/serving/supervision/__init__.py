"""Manages the processes of a server: starts, monitors, replaces and stops them."""
