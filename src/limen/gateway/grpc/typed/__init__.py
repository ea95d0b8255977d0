"""A typed gRPC service for each endpoint."""
