"""What every placement owes its callers: the public suite over inline and process."""

from limen.runtime.placement import Placement
from limen.runtime.placement.inline import InlinePlacement
from limen.runtime.placement.process.own import OwnReplicas
from limen.testing.placements import PlacementSuite


class TestInline(PlacementSuite):
    def place(self, *, trust_code: bool) -> Placement:
        return InlinePlacement(trust_code=trust_code)


class TestProcess(PlacementSuite):
    def place(self, *, trust_code: bool) -> Placement:
        return OwnReplicas(trust_code=trust_code)
