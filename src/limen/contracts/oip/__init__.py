"""The vocabulary of the Open Inference Protocol, shared by REST and gRPC."""
