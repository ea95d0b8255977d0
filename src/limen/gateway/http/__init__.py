"""The HTTP gateway: one HTTP/1.1 engine with strict limits, the Open Inference Protocol and the record API on top."""
