"""What a process that loads models is given of the environment, and what it is not."""

import os
import re

import pytest

from limen.runtime.sandbox.child import (
    PASSED_PREFIXES,
    PASSED_VARIABLES,
    model_environment,
    passed_environment,
    without_here,
)

SECRETS = [
    *(
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LIMEN_REGISTRY_DATABASE_URL",
        "LIMEN_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
    ),
    *("PGPASSWORD", "GITHUB_TOKEN", "HF_TOKEN", "SSH_AUTH_SOCK", "KUBECONFIG", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("http_proxy", "HTTPS_PROXY", "DATABASE_URL", "PYTHONSTARTUP", "PYTHONINSPECT", "ANYTHING_ELSE"),
]


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_not_listed_is_not_passed(name, monkeypatch):
    monkeypatch.setenv(name, "needle")
    assert "needle" not in passed_environment().values()
    assert "needle" not in model_environment(1).values()


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "LANG", "LC_NUMERIC", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TMPDIR"]
)
def test_what_libraries_need_is_passed(name, monkeypatch):
    monkeypatch.setenv(name, "/opt/needle")
    assert model_environment(1)[name] == "/opt/needle"


def test_a_package_gets_what_it_asks_for_and_only_that(monkeypatch):
    monkeypatch.setenv("RISK_TABLE", "/data/risk.csv")
    monkeypatch.setenv("HF_TOKEN", "needle")
    found = model_environment(2, ["RISK_TABLE", "NOT_SET"])
    assert found["RISK_TABLE"] == "/data/risk.csv"
    assert not {"HF_TOKEN", "NOT_SET"} & found.keys()


def test_of_our_settings_every_process_gets_only_the_form_of_the_log():
    found = {name for name in PASSED_VARIABLES if name.startswith("LIMEN_")}
    assert found == {"LIMEN_DEBUG", "LIMEN_LOG_FORMAT", "LIMEN_LOG_LEVEL"}


@pytest.mark.parametrize(
    ("given", "left"), [(":/a", "/a"), ("/a:", "/a"), ("/a::/b", "/a:/b"), ("/a:/b", "/a:/b"), ("", None), ("::", None)]
)
def test_an_empty_entry_of_a_search_path_is_dropped(given, left):
    given, left = (text and text.replace(":", os.pathsep) for text in (given, left))
    assert without_here({"PYTHONPATH": given, "OTHER": "::"}) == ({"PYTHONPATH": left} if left else {}) | {
        "OTHER": "::"
    }


def test_the_page_lists_every_variable(repository):
    text = (repository / "docs" / "reference" / "containment.md").read_text()
    listed = set(re.findall(r"`([A-Z0-9_]+)(?:\*)?`", text))
    assert listed >= PASSED_VARIABLES | {prefix for prefix in PASSED_PREFIXES if prefix.endswith("_")}
