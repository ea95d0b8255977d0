"""The versions in memory: loading, warming up, leasing and letting go."""
