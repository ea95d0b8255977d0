"""The sources of a server's endpoints: named packages, or a registry."""
