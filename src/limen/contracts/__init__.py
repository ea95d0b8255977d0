"""The vocabulary of Limen: pure values and rules that every other package shares.

No framework and no I/O live here. Every package may import this one; it imports none of them.
"""
