"""Child processes of Limen: how each is started, what it inherits, and what it may do."""
