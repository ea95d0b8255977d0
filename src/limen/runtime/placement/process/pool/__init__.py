"""The gateway's side of the process placement: the replicas of one version."""
