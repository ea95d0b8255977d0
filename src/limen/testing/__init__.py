"""Fakes and conformance suites for people who extend Limen or test against it.

`FakeClock`, `MemoryBlobs`, `memory_registry` and `FakeFleet` need nothing but Limen. The suites in `testing.backends` and
`testing.placements` need pytest, and the second one pytest-asyncio in its automatic mode: `pip install 'limen[testing]'`.
The product never imports this package.
"""

from limen.testing.clock import FakeClock
from limen.testing.fleet import FakeFleet
from limen.testing.stores import MemoryBlobs, memory_registry

__all__ = ["FakeClock", "FakeFleet", "MemoryBlobs", "memory_registry"]
