"""What versions counted that are no longer served: sums stay what they were, and no counter jumps."""

from limen.contracts.snapshot import ServedEndpoint, ServedVersion, Snapshot
from limen.serving.control.retired import Retired

CONNECTIONS = ("process",)


def snapshot(revision: int, **endpoints: tuple[str, ...]) -> Snapshot:
    served = (
        ServedEndpoint(name, versions=tuple(ServedVersion(number, "/package", "d") for number in numbers))
        for name, numbers in endpoints.items()
    )
    return Snapshot(revision, tuple(served))


def shown(retired: Retired, endpoint: str, version: str) -> tuple[str, ...]:
    return retired.naming()(("gateway", endpoint, version, "rest"))[1:3]


def test_what_is_served_keeps_its_labels():
    retired = Retired()
    retired.note(snapshot(1, m=("1", "2")))
    assert shown(retired, "m", "1") == ("m", "1")
    assert shown(retired, "m", "") == ("m", "")
    assert shown(retired, "", "") == ("", "")
    assert retired.naming()(CONNECTIONS) == CONNECTIONS


def test_versions_that_are_gone_are_one_series_of_their_endpoint():
    retired = Retired()
    retired.note(snapshot(1, m=("1",), n=("1",)))
    retired.note(snapshot(4, m=("3",), n=("1",)))
    assert {shown(retired, "m", gone) for gone in ("1", "2", "retired")} == {("m", "retired-4")}
    assert retired.naming()(("runtime", "m", "2")) == ("runtime", "m", "retired-4")
    assert shown(retired, "n", "1") == ("n", "1")
    assert shown(retired, "n", "retired") == ("n", "retired-1")


def test_a_series_that_takes_in_more_has_a_name_that_it_never_had():
    retired, names = Retired(), []
    for revision, versions in enumerate((("1",), ("2",), ("1",), ("2",)), start=1):
        retired.note(snapshot(revision, m=versions))
        names.append(shown(retired, "m", "9")[1])
    retired.note(snapshot(9, m=("2",)))
    assert (len(set(names)), shown(retired, "m", "9")[1]) == (4, names[-1])


def test_an_endpoint_that_is_gone_is_counted_without_its_name():
    retired = Retired()
    retired.note(snapshot(1, m=("1",), n=("1",)))
    retired.note(snapshot(2, n=("1",)))
    retired.note(snapshot(3, n=("2",)))
    assert shown(retired, "m", "1") == shown(retired, "m", "") == shown(retired, "", "retired") == ("", "retired-2")
