"""Open Inference Protocol over gRPC, in Triton's message layout; `server.GrpcServer` is what `app` starts.

Importing this package costs nothing; its modules import grpc and the generated code.
"""

import os

# gRPC prints a line to standard error whenever a process is started beside it; the processes we start never use it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
