"""From an archive to a version: verified, tested and replayed before it is registered."""
