"""Patterns: what they mean, what is refused, and that no pattern and no text can take long."""

import re

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.contracts.compatibility.values import LIMITS
from limen.contracts.contract import Contract, Field
from limen.contracts.errors import InvalidArgument, InvalidPackage
from limen.contracts.openapi.pattern_example import matching_text
from limen.contracts.strict.patterns import MAX_STEPS, Pattern, PatternError, compile_pattern
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.packaging.manifest.decoder import decode_manifest

BACKTRACKING = [
    "^(a+)+$",
    "^(a|a)*$",
    "^(a|aa)+$",
    "(x+x+)+y",
    r"^(\w+\s?)*$",
    "(.*)*(.*)*(.*)*b$",
    "^(?:[a-z]+)+[0-9]$",
]


@pytest.mark.parametrize("pattern", BACKTRACKING)
def test_a_pattern_that_would_backtrack_is_answered_at_once(pattern):
    # Each of these takes longer than the age of the universe on an engine that tries every split.
    assert not compile_pattern(pattern).matches("a" * 5000 + "!\n")
    check = ContractCheck(contract(pattern=pattern))
    with pytest.raises(InvalidArgument, match="must match"):
        check.check_inputs({"x": np.array(["a" * 5000 + "!\n"] * 10, object)})
    with pytest.raises(InvalidArgument, match="must match"):
        RecordCodec(contract(pattern=pattern)).decode(orjson.dumps({"instances": [{"x": "a" * 5000 + "!\n"}] * 10}))


@pytest.mark.parametrize("pattern", BACKTRACKING)
def test_no_example_of_a_pattern_takes_long_to_find(pattern):
    text = matching_text(pattern)
    assert text is None or compile_pattern(pattern).matches(text)


def test_repetitions_within_repetitions_make_no_endless_example():
    nested = "(?:" * 40 + "a" + "+b?)*" * 40
    assert matching_text(f"^{nested}c$", min_length=250, max_length=250) is None


def test_the_work_for_one_text_is_bounded_by_the_size_of_its_pattern():
    pattern = compile_pattern(r"^\p{L}+$")
    longest = pattern.longest
    assert longest < MAX_STEPS // 1000
    assert pattern.matches("é" * (longest // 2))
    assert not pattern.matches("é" * (longest // 2 + 1))
    with pytest.raises(InvalidArgument, match=f"must match .* within {longest} bytes"):
        ContractCheck(contract(pattern=r"^\p{L}+$")).check_inputs({"x": np.array(["a" * (longest + 1)], object)})


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a(?=b)", "lookahead and lookbehind"),
        ("a(?!b)", "lookahead and lookbehind"),
        ("(?<=a)b", "lookahead and lookbehind"),
        ("(?<!a)b", "lookahead and lookbehind"),
        (r"(a)\1", "backreferences"),
        ("(?P<n>a)(?P=n)", "backreferences"),
        (r"(?<n>a)\k<n>", "backreferences"),
        ("(?>a)", "atomic groups"),
        ("a++b", "possessive"),
        ("(a)?(?(1)b|c)", "conditions"),
        (r"a\Z", r"write \$"),
        (r"\u0041", r"write \\x"),
        (r"\C", "half a character"),
        ("a{1001}", "more than 1000"),
        ("((a{100}){100}){100}", "more than 1000"),
        (r"(?:\p{L}{1,30} ){1,3}", "too large"),
        ("[a", "never closed"),
        ("(a", "never closed"),
        ("a)", "never opened"),
        ("*a", "nothing to repeat"),
        ("[b-a]", "range or class"),
        (r"\q", "escape"),
    ],
)
def test_what_cannot_be_matched_in_linear_time_is_refused_by_name(pattern, why):
    with pytest.raises(PatternError, match=why):
        compile_pattern(pattern)
    manifest = {"name": "m", "backend": "onnx", "artifact": "m.onnx", "outputs": [{"name": "y", "type": "string"}]}
    field = {"name": "x", "type": "string", "pattern": pattern}
    with pytest.raises(InvalidPackage, match=rf"inputs\[0\].pattern: .* cannot be used: .*{why}"):
        decode_manifest(orjson.dumps(manifest | {"inputs": [field]}).decode())


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("[0-9]{3}", ["abc123def"], ["12"]),  # anywhere, as JSON Schema says
        ("^[0-9]{3}$", ["123"], ["1234", "123\n", "a123"]),  # $ is the very end
        (r"^\d+$", ["123"], ["١٢٣"]),  # digits of ASCII
        (r"^\w+$", ["a_1"], ["é"]),
        (r"^\p{L}+$", ["aé日"], ["1"]),
        ("^.$", ["é", "😀"], ["ab", "\n"]),  # characters, not bytes
        ("(?i)^eur$", ["EUR", "eur"], ["usd"]),
        ("^(?:a|b)?$", ["", "a"], ["ab"]),
    ],
)
def test_a_pattern_means_what_json_schema_says(pattern, matching, others):
    compiled = compile_pattern(pattern)
    assert [t for t in matching if not compiled.matches(t)] == []
    assert [t for t in others if compiled.matches(t)] == []


PATTERNS = [
    "^[A-Z]{2}[0-9]{2}$",
    "^(a|b)+$",
    "^a|b$",
    r"^a\$",
    r"^\$a$",
    "^[^b]*$",
    "^.*$",
    r"^\w+(?:\.\w+)*$",
    "^(?:(a)|b){1,3}$",
    r"^[a-z\]$]+$",
    "(?i)^ab$",
    "^(?i)ab$",
    "a",
    "^$",
    r"^\s*$",
    "^(?m)a$",
    "^(?:a|)$",
]


@given(st.sampled_from(PATTERNS), st.lists(st.text("aAbB12.$]^\0\n é", max_size=4), max_size=12))
def test_a_column_is_judged_as_its_texts_are(pattern, texts):
    compiled = compile_pattern(pattern)
    assert compiled.match_all(texts) == all(compiled.matches(t) for t in texts)


@given(st.sampled_from(PATTERNS[:10]), st.text("aAbB12.$]^é ", max_size=6))
def test_common_patterns_mean_the_same_as_in_python(pattern, text):
    assert compile_pattern(pattern).matches(text) == (re.search(pattern, text, re.ASCII) is not None)


def test_common_patterns_are_matched_a_column_at_a_time():
    for pattern in ("^[A-Z]{2}[0-9]{6}$", r"^[\w.+-]+@[\w-]+(\.[\w-]+)+$", r"^(?:GB|DE)\d{2,9}$"):
        assert Pattern(pattern)._match_column(["", *["?"] * 9]) is False
        assert Pattern(pattern)._match_column(list(filter(None, [matching_text(pattern)])) * 9) is True


@pytest.mark.parametrize("values", [["AB12"] * 9, ["AB12"], [None] * 9, ["AB12", None] * 5])
def test_texts_and_gaps_that_keep_the_limits_are_taken(values):
    checked = contract(pattern="^[A-Z0-9]+$", min_length=2, max_length=4, nullable=True)
    assert ContractCheck(checked).check_inputs({"x": np.array(values, object)}) == len(values)
    rows = [{"x": value} for value in values]
    assert RecordCodec(checked).decode(orjson.dumps({"instances": rows})).inputs["x"].tolist() == values


@pytest.mark.parametrize(("bad", "why"), [("AB-12", "must match"), ("A", "at least 2"), ("ABCDEF", "at most 5")])
@pytest.mark.parametrize("at", [0, 7])
def test_the_first_text_that_breaks_a_limit_is_named(bad, why, at):
    checked = contract(pattern="^[A-Z0-9]+$", min_length=2, max_length=5, shape=(2,))
    values = ["AB12"] * 20
    values[at] = bad
    with pytest.raises(InvalidArgument, match=rf"x\[{at // 2}\]\[{at % 2}\]: .*{why}"):
        ContractCheck(checked).check_inputs({"x": np.array(values, object).reshape(10, 2)})
    rows = [{"x": values[i : i + 2]} for i in range(0, 20, 2)]
    with pytest.raises(InvalidArgument, match=rf"instances\[{at // 2}\].x\[{at % 2}\]: .*{why}"):
        RecordCodec(checked).decode(orjson.dumps({"instances": rows}))


def test_a_pattern_published_before_it_was_refused_covers_nothing_but_itself():
    old = Field(name="x", type="string", pattern="a(?=b)")
    assert LIMITS["pattern"](old, old)
    assert not LIMITS["pattern"](old, Field(name="x", type="string", enum=("ab",)))


def contract(**limits: object) -> Contract:
    return Contract(name="m", inputs=(Field(name="x", type="string", **limits),), outputs=())  # type: ignore[arg-type]
