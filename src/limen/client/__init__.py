"""The Python SDK: call models and manage a Limen server from a program.

    from limen.client import Client

    with Client("http://127.0.0.1:8000") as client:
        answer = client.predict("credit", {"loan_amount": 6500, "purpose": "CAR"})
        print(answer.record["decision"], answer.version)

`AsyncClient` and `Client` call models, over REST (`http://`, `https://`) and gRPC (`grpc://`, `grpcs://`); `AsyncManagement` and
`Management` speak to the management API. There is one implementation, the asynchronous one; the others run it in a thread of their
own. Errors are those of `limen.contracts.errors`, whatever the transport.

It knows the contracts and nothing else of Limen. Libraries are loaded when they are needed: importing this loads neither httpx,
grpc, NumPy nor pandas.
"""

from __future__ import annotations

from limen.client.answers import Answer
from limen.client.inference import AsyncClient, Client
from limen.client.management import AsyncManagement, Management
from limen.client.retries import RetryPolicy

__all__ = ["Answer", "AsyncClient", "AsyncManagement", "Client", "Management", "RetryPolicy"]
