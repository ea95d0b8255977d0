"""`limen diff` says whether a new package breaks callers of an old one, why, and what to do about it."""

import json
from pathlib import Path

import pytest

from tests.services.packages import write_score
from tests.services.process import limen, refused


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Return a folder with two packages of one model, the same for now."""
    write_score(tmp_path / "old")
    write_score(tmp_path / "new")
    return tmp_path


def edit(packages: Path, before: str, after: str) -> None:
    """Change the new package's manifest."""
    manifest = packages / "new" / "model.yaml"
    text = manifest.read_text()
    assert before in text
    manifest.write_text(text.replace(before, after))


def test_two_equal_contracts_differ_in_nothing(packages):
    done = limen("diff", "old", "new", cwd=packages)
    assert (done.returncode, done.stdout, done.stderr) == (0, "The contracts are the same.\n", "")


def test_a_compatible_version_is_told_from_one_with_notes(packages):
    edit(packages, "minimum: 0, maximum: 130", "minimum: 0, maximum: 150")
    done = limen("diff", "old", "new", cwd=packages)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "compatible  inputs.age.maximum",
        "            The maximum changes from 130 to 150; every value that was accepted still is.",
        "",
        "1 difference: 1 compatible",
        "new does not break callers of old.",
    ]
    edit(packages, "name: score\n", "name: score\nlicence: MIT\n")
    assert limen("diff", "old", "new", cwd=packages).stdout.endswith(
        "2 differences: 1 note, 1 compatible\nnew does not break callers of old; tell them about the notes.\n"
    )


def test_a_breaking_version_ends_with_status_1_the_reasons_and_a_way_out(packages):
    edit(packages, "unit: USD", "unit: EUR")
    edit(packages, "maximum: 130", "maximum: 150")
    done = limen("diff", "old", "new", cwd=packages)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == [
        "breaking    inputs.amount.unit (records, tensors, protobuf)",
        "            The unit changes from USD to EUR; the numbers look right and mean something else.",
    ]
    assert done.stdout.splitlines()[-1] == "2 differences: 1 breaking, 1 compatible"
    assert done.stderr == (
        "error: new breaks callers of old\n"
        "hint: Undo the breaking changes, or set `major: 2` in its model.yaml: it is then served next to the old one, at the "
        "separate endpoint score.v2.\n"
    )


def test_a_major_of_its_own_makes_a_breaking_version_a_release(packages):
    edit(packages, "unit: USD", "unit: EUR")
    edit(packages, "name: score\n", "name: score\nmajor: 2\n")
    done = limen("diff", "old", "new", cwd=packages)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == (
        "new has a different major, so it gets a separate endpoint such as score.v2; callers of major 1 are not affected."
    )


def test_archives_are_compared_and_programs_get_json(packages):
    edit(packages, "- {name: score, type: float32}", "- {name: score, type: float32, nullable: true}")
    for name in ("old", "new"):
        assert limen("build", name, "-o", f"{name}-dist", cwd=packages).returncode == 0
    [old], [new] = (packages / "old-dist").iterdir(), (packages / "new-dist").iterdir()
    done = limen("diff", old, new, "--json", cwd=packages)
    assert (done.returncode, done.stderr) == (1, "")
    told = json.loads(done.stdout)
    assert (told["verdict"], told["breaks_callers"]) == ("breaking", True)
    assert told["old"] == told["new"] == {"name": "score", "major": 1}
    assert [f["path"] for f in told["findings"]] == ["outputs.score.nullable"]
    assert set(told["findings"][0]) == {"path", "kind", "change", "surfaces", "reason"}


def test_what_cannot_be_compared_is_said(packages):
    assert "nothing found at gone" in refused("diff", "old", "gone", cwd=packages)
    edit(packages, "name: score\n", "name: other\n")
    assert "hint: These packages belong to different models." in refused("diff", "old", "new", cwd=packages)
    edit(packages, "type: float32", "type: floot")
    assert "must be one of" in refused("diff", "old", "new", cwd=packages)


def test_inspect_shows_the_major(packages):
    assert json.loads(limen("inspect", "old", "--json", cwd=packages).stdout)["manifest"]["contract"]["major"] == 1
    edit(packages, "name: score\n", "name: score\nmajor: 2\n")
    assert "  major       2\n" in limen("inspect", "new", cwd=packages).stdout
