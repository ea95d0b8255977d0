"""From an archive to a version: verified, tried out and replayed before it is registered."""
