"""A library that crashes on a model takes neither a command nor what it has to say."""

import pytest

from tests.services.packages import write_code
from tests.services.process import limen, refused

FIELDS = "inputs: [{name: x, type: float32}]\noutputs: [{name: x, type: float32}]\n"
CRASH = "import ctypes; ctypes.string_at(0)"
AT_LOAD = f"{CRASH}\n\n\nclass Model:\n    def predict(self, inputs):\n        return inputs\n"
AT_ANSWER = f"class Model:\n    def predict(self, inputs):\n        {CRASH}\n"


@pytest.mark.parametrize(("code", "step"), [(AT_LOAD, "artifact"), (AT_ANSWER, "examples")])
def test_check_says_in_one_line_that_the_model_crashes(code, step, tmp_path):
    package = write_code(tmp_path / "crash", FIELDS, code)
    told = refused("check", package, "--trust-code")
    shown = limen("check", package, "--trust-code").stdout
    assert f"FAIL  {step}" in shown
    assert "the library that reads the model crashed (SIGSEGV)" in shown
    assert "is not fit to serve" in told


def test_what_a_model_starts_does_not_outlive_its_check(tmp_path):
    code = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "class Model:\n    def predict(self, inputs):\n        return inputs\n"
    )
    package = write_code(tmp_path / "forks", FIELDS, code)
    # It would hold the pipe open for ten minutes.
    assert limen("check", package, "--trust-code").returncode == 0
