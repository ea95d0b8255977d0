"""The HTTP/1.1 engine and what all listeners share; knows nothing of models."""
