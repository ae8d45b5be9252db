"""What does not run before every merge is noted when it runs, if that is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SUITE = """
import pytest

def test_that_is_quick():
    pass

@pytest.mark.slow
@pytest.mark.parametrize("case", [1, 2])
def test_of_two_cases(case):
    assert case != 1

@pytest.mark.slow
def test_that_passes():
    pass

@pytest.fixture
def broken():
    raise OSError

@pytest.mark.slow
def test_of_a_broken_fixture(broken):
    pass

@pytest.mark.gpu
def test_that_is_skipped():
    pytest.skip("no GPU")
"""
BEFORE = """# How it went.

[measured.L01]
row = "1 |"

[tests."gpu/test_b.py::test_older"]
outcome = "passed"
date = 2020-02-02
on = "Linux"

[tests."test_a.py::test_that_passes"]
outcome = "failed"
date = 2020-02-02
on = "Linux"
"""
PLUGIN = """
import last_results
from pathlib import Path
last_results.RECORD = Path("record.toml")
from last_results import pytest_addoption, pytest_configure
"""


@pytest.fixture
def run(tmp_path):
    """Run a suite with the plugin; returns what its record holds then."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(SUITE)
    (tmp_path / "noting.py").write_text(PLUGIN)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  slow\n  gpu\n")
    record = tmp_path / "record.toml"
    record.write_text(BEFORE)

    def run(*options: str) -> str:
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "noting", *options],
            cwd=tmp_path, capture_output=True, timeout=60, check=False,
            env={"PYTHONPATH": os.pathsep.join([str(TESTS), str(tmp_path)]), "PATH": "",
                 "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )  # fmt: skip
        return record.read_text()

    return run


def test_slow_tests_are_noted_and_others_are_not(run):
    text = run("--record-results")
    assert text.startswith("# How it went.\n\n[measured.L01]")
    noted = tomllib.loads(text)["tests"]
    assert {name: entry["outcome"] for name, entry in noted.items()} == {
        "gpu/test_b.py::test_older": "passed",  # from before
        "test_a.py::test_of_two_cases": "failed",
        "test_a.py::test_that_passes": "passed",
        "test_a.py::test_of_a_broken_fixture": "failed",
    }
    assert noted["test_a.py::test_that_passes"]["date"].year > 2020
    assert "torch" in noted["test_a.py::test_that_passes"]["on"]


def test_nothing_is_noted_unasked(run):
    assert run() == BEFORE
