"""Where the endpoints of a server come from: named packages, or a registry."""
