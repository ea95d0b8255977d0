"""Packages: the manifest, the archive, digests and the safety of their contents. Knows nothing of serving."""
