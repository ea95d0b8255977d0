"""Child processes of Limen: how they start, what they inherit, and what they may do."""
