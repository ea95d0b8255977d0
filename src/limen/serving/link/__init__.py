"""A gateway's end of the connection to control."""
