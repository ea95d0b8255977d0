"""The protocol between gateways and replicas: frames, layouts and shared memory."""
