"""What `endpoint.yaml` may say, and what two of them differ in."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.contract import Slo
from limen.contracts.endpoint import EndpointSpec
from limen.contracts.errors import InvalidArgument
from limen.contracts.management import SettingChange as Change
from limen.contracts.serving import Queue, Replicas, Resources, Serving
from limen.traffic.endpoints import difference, endpoint_schema, parse_spec, plain_spec, spec_text

TEXT = """
name: credit
traffic: {champion: 90, 7: 10}
ready: [3, challenger]
placement: process
serving: {replicas: {min: 0, max: 4}, queue: {max_requests: 10}, resources: {cpus: 2}, hang_after_s: 5}
slo: {p95_ms: 20, deadline_ms: 100}
paused: true
"""
SPEC = EndpointSpec(
    name="credit",
    model="credit",
    traffic={"champion": 90, "7": 10},
    ready=("3", "challenger"),
    placement="process",
    serving=Serving(
        replicas=Replicas(min=0, max=4), queue=Queue(max_requests=10), resources=Resources(cpus=2), hang_after_s=5.0
    ),
    slo=Slo(p95_ms=20.0, deadline_ms=100.0),
    is_paused=True,
)


def test_a_description_is_read_whole():
    assert parse_spec(TEXT) == SPEC
    assert parse_spec(TEXT.encode()) == SPEC
    assert parse_spec(plain_spec(SPEC)) == SPEC
    assert parse_spec(json.dumps(plain_spec(SPEC))) == SPEC


@pytest.mark.parametrize(
    ("name", "model", "major"),
    [("credit", "credit", 1), ("credit.v2", "credit", 2), ("credit.v0", "credit.v0", 1), ("a.v2.v13", "a.v2", 13)],
)
def test_model_and_major_follow_from_the_name(name: str, model: str, major: int):
    spec = parse_spec({"name": name, "traffic": "champion"})
    assert (spec.model, spec.major) == (model, major)
    assert parse_spec({"name": name, "model": "other", "major": 3, "traffic": "champion"}).model == "other"


@pytest.mark.parametrize(("given", "traffic"), [("champion", {"champion": 100}), (7, {"7": 100}), ("7", {"7": 100})])
def test_one_version_takes_everything(given: object, traffic: dict[str, int]):
    assert parse_spec({"name": "m", "traffic": given}).traffic == traffic


BAD = {
    "empty": ("", "", "empty"),
    "not a mapping": ("[1]", "", "mapping"),
    "no name": ("traffic: 1", "name", "required"),
    "no traffic": ("name: m", "traffic", "required"),
    "unknown key": ("name: m\ntraffic: 1\nmodle: x", "modle", "did you mean 'model'"),
    "unknown key below": (
        "name: m\ntraffic: 1\nserving: {replicas: {most: 1}}",
        "serving.replicas.most",
        "unknown key",
    ),
    "twice": ("name: m\nname: n\ntraffic: 1", "name", "is repeated"),
    "name": ("name: ../m\ntraffic: 1", "name", "must be"),
    "model": ("name: m\nmodel: stats\ntraffic: 1", "model", "must be"),
    "major": ("name: m\nmajor: 0\ntraffic: 1", "major", "from 1"),
    "B77 99": ("name: m\ntraffic: {a: 50, b: 49}", "traffic", "must add up to 100 percent, not 99"),
    "B77 101": ("name: m\ntraffic: {a: 100, b: 1}", "traffic", "must add up to 100 percent, not 101"),
    "B77 -1": ("name: m\ntraffic: {a: 101, b: -1}", "traffic.b", "from 0 to 100"),
    "B77 NaN": ("name: m\ntraffic: {a: .nan}", "traffic.a", "from 0 to 100"),
    "B77 1e9": ("name: m\ntraffic: {a: 1e9}", "traffic.a", "from 0 to 100"),
    "B77 half": ("name: m\ntraffic: {a: 99.5, b: 0.5}", "traffic.a", "whole number"),
    "B77 true": ("name: m\ntraffic: {a: true}", "traffic.a", "whole number"),
    "B77 none": ("name: m\ntraffic: {}", "traffic", "1 to 16"),
    "latest": ("name: m\ntraffic: latest", "traffic", "other than 'latest'"),
    "zero": ("name: m\ntraffic: 0", "traffic", "number of a version"),
    "leading zero": ("name: m\ntraffic: {07: 100}", "traffic['07']", "number of a version"),
    "list": ("name: m\ntraffic: [a]", "traffic", "number of a version"),
    "ready twice": ("name: m\ntraffic: 1\nready: [3, '3']", "ready[1]", "is repeated"),
    "ready": ("name: m\ntraffic: 1\nready: [A]", "ready[0]", "alias"),
    "placement": ("name: m\ntraffic: 1\nplacement: proces", "placement", "did you mean 'process'"),
    "replicas": ("name: m\ntraffic: 1\nserving: {replicas: {min: 3}}", "serving.replicas.min", "above max"),
    "slo": ("name: m\ntraffic: 1\nslo: {p95_ms: 9, deadline_ms: 3}", "slo.p95_ms", "above deadline_ms"),
    "paused": ("name: m\ntraffic: 1\npaused: yes", "paused", "true or false"),
    "B100 tag": ("name: !!python/object x\ntraffic: 1", "name", "tags"),
    "B100 alias": ("name: &a m\ntraffic: 1", "name", "anchors"),
}


@pytest.mark.parametrize(("text", "path", "reason"), BAD.values(), ids=BAD)
def test_a_mistake_is_told_with_its_path(text: str, path: str, reason: str):
    with pytest.raises(InvalidArgument) as refused:
        parse_spec(text, "my.yaml")
    found = {violation.path: violation.reason for violation in refused.value.violations}
    assert reason in found[path]
    assert str(refused.value).startswith("my.yaml: ")


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InvalidArgument) as refused:
        parse_spec("name: X\ntraffic: {a: 1000}\npaused: 1\nfoo: 1")
    assert {violation.path for violation in refused.value.violations} == {"name", "traffic.a", "paused", "foo"}


# -- the text of a spec ------------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,12}", fullmatch=True).filter(lambda n: ".." not in n and n != "stats")
ALIASES = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True).filter(lambda a: a != "latest"),
    st.sampled_from(["null", "true", "no", "on", "y", "e1"]),
)
REFERENCES = ALIASES | st.integers(1, 10**18 - 1).map(str)
SPECS = st.builds(
    lambda name, model, major, routes, ready, serving, slo, placement, is_paused: EndpointSpec(
        name=name,
        model=model,
        major=major,
        traffic=dict(zip(routes, [100 - 3 * (len(routes) - 1), *[3] * (len(routes) - 1)], strict=True)),
        ready=tuple(ready),
        serving=serving,
        slo=slo,
        placement=placement,
        is_paused=is_paused,
    ),
    name=NAMES,
    model=NAMES,
    major=st.integers(1, 9),
    routes=st.lists(REFERENCES, min_size=1, max_size=4, unique=True),
    ready=st.lists(REFERENCES, max_size=3, unique=True),
    serving=st.none()
    | st.just(Serving())
    | st.builds(lambda low: Serving(replicas=Replicas(min=low, max=5)), st.integers(0, 5)),
    slo=st.none() | st.just(Slo()) | st.builds(Slo, p95_ms=st.floats(0.001, 1e6)),
    placement=st.sampled_from(["", "process", "inline"]),
    is_paused=st.booleans(),
)


@given(SPECS)
def test_the_text_of_a_spec_reads_as_the_spec(spec: EndpointSpec):
    assert parse_spec(spec_text(spec)) == spec
    assert parse_spec(plain_spec(spec)) == spec
    assert spec_text(parse_spec(spec_text(spec))) == spec_text(spec)


def test_the_text_is_what_people_write():
    assert spec_text(SPEC) == (
        "name: credit\n"
        "model: credit\n"
        "major: 1\n"
        "traffic:\n"
        "  champion: 90\n"
        "  7: 10\n"
        "ready:\n"
        "- 3\n"
        "- challenger\n"
        "placement: process\n"
        "serving:\n"
        "  replicas:\n"
        "    min: 0\n"
        "    max: 4\n"
        "  queue:\n"
        "    max_requests: 10\n"
        "  resources:\n"
        "    cpus: 2\n"
        "  hang_after_s: 5.0\n"
        "slo:\n"
        "  p95_ms: 20.0\n"
        "  deadline_ms: 100.0\n"
        "paused: true\n"
    )


@given(SPECS)
def test_the_schema_for_editors_takes_what_the_reader_takes(spec: EndpointSpec):
    jsonschema_rs.validator_for(endpoint_schema()).validate(plain_spec(spec))


def test_the_schema_for_editors_refuses_what_it_can_see():
    schema = jsonschema_rs.validator_for(endpoint_schema())
    for value in ({}, {"name": "m", "traffic": "latest"}, {"name": "m", "traffic": {"a": 101}}, {"name": "m", "x": 1}):
        assert not schema.is_valid(value)


# -- differences -------------------------------------------------------------------------------------------------------------


def test_equal_specs_do_not_differ():
    assert difference(SPEC, parse_spec(TEXT)) == ()
    assert difference(None, None) == ()


def test_a_difference_names_each_setting_before_and_after():
    new = parse_spec({"name": "credit", "traffic": {"champion": 50, "challenger": 50}, "serving": {"queue": {}}})
    old = parse_spec({"name": "credit", "traffic": {"champion": 90, "7": 10}, "ready": [3], "paused": True})
    assert difference(old, new) == (
        Change("traffic.challenger", None, 50),
        Change("traffic.champion", 90, 50),
        Change("serving", None, {}),
        Change("traffic['7']", 10, None),
        Change("ready", ["3"], None),
        Change("paused", True, None),
    )


def test_a_new_endpoint_differs_in_everything_it_says():
    spec = parse_spec("name: m\ntraffic: 1")
    assert [change.path for change in difference(None, spec)] == ["name", "model", "major", "traffic['1']"]
    assert [change.after for change in difference(spec, None)] == [None] * 4


def test_the_example_of_the_documentation_is_one(repository: Path):
    page = (repository / "docs/reference/endpoint-yaml.md").read_text()
    text = page.partition('```yaml title="endpoint.yaml"\n')[2].partition("```")[0]
    assert parse_spec(text).name == "credit"
