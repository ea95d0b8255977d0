"""HTTP without encryption: loading certificates takes 45 ms, and tests ask hundreds of times over connections of their own."""

from functools import partial

import httpx

get = partial(httpx.get, verify=False)
post = partial(httpx.post, verify=False)
Client = partial(httpx.Client, verify=False)
