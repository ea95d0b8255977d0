"""What the processes of one server say to each other, one conversation a file."""
