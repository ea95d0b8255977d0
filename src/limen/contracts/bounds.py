"""The bounds that settings of several packages share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

Port: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
"""0 lets the system choose."""
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Bytes: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
HeaderBytes: TypeAlias = Annotated[int, msgspec.Meta(ge=1 << 10, le=16 << 20)]
"""The head of a request: less than a kibibyte would refuse ordinary clients."""
