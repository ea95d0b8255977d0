"""Packages: the manifest, the archive, digests and the safety of what is inside. Knows nothing of serving."""
