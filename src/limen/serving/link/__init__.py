"""A gateway's end of the conversation with control."""
