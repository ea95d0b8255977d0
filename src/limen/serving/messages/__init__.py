"""Messages between the processes of one server, one conversation per file."""
