"""The versions in memory: loading, warm-up, leasing and unloading."""
