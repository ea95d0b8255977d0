"""What gateways and replicas send each other: frames, layouts and shared memory."""
