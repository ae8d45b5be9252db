"""A suite of skipped tests passes, so what may be skipped is on a list."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SUITE = """
import pytest

def test_that_runs():
    pass

def test_where_data_is_missing():
    pytest.skip("shared test data not present")

@pytest.mark.skipif(True, reason="Windows can not fork")
def test_elsewhere():
    pass

@pytest.mark.xfail(reason="known")
def test_that_is_known_to_fail():
    assert False
"""
REFUSED = {
    "in a test": 'def test_a():\n    pytest.skip("too hard today")\n',
    "by a mark": '@pytest.mark.skip(reason="too hard today")\ndef test_a():\n    pass\n',
    "in a fixture": "@pytest.fixture\ndef x():\n    pytest.skip('too hard today')\n"
    "def test_a(x):\n    pass\n",
    "a module": 'pytest.importorskip("no_such_module", reason="too hard today")\n',
    "more words": 'def test_a():\n    pytest.skip("shared test data not present, too hard")\n',
}


def run(folder: Path, *options: str) -> tuple[int, str]:
    """Run the tests of a folder as the suite is run, but with its policy alone."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "skip_policy", "-p", "no:cacheprovider", *options],
        cwd=folder, env={"PYTHONPATH": str(TESTS), "PATH": "", "PYTEST_ADDOPTS": "",
                         "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


def test_reasons_of_the_list_do_not_fail_a_run(tmp_path):
    (tmp_path / "test_suite.py").write_text(SUITE)
    code, said = run(tmp_path)
    assert "1 passed, 2 skipped, 1 xfailed" in said
    assert code == 0, said


@pytest.mark.parametrize("where", REFUSED)
def test_any_other_skipped_test_fails_the_run_and_is_named(where, tmp_path):
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "test_more.py").write_text("import pytest\n" + REFUSED[where])
    code, said = run(tmp_path)
    assert code == 1, said
    assert "test_more.py" in said.partition("not on the list")[2]
    assert "too hard" in said.partition("not on the list")[2]


def test_processes_side_by_side_hide_nothing(tmp_path):
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "test_more.py").write_text("import pytest\n" + REFUSED["in a test"])
    code, said = run(tmp_path, "-p", "xdist", "-n", "2")
    assert code == 1, said
    assert "test_more.py::test_a: too hard today" in said
    (tmp_path / "test_more.py").unlink()
    assert run(tmp_path, "-p", "xdist", "-n", "2")[0] == 0


def test_this_very_run_is_watched(pytestconfig):
    if hasattr(pytestconfig, "workerinput"):
        conftest = (TESTS / "conftest.py").read_text(encoding="utf-8")
        assert "skip_policy" in conftest
    else:
        assert pytestconfig.pluginmanager.has_plugin("allowed skips")


def test_every_reason_of_the_list_is_one_of_a_test():
    """A list that only grows would end up allowing everything."""
    import tomllib

    allowed = tomllib.loads((TESTS / "allowed_skips.toml").read_text(encoding="utf-8"))["allowed"]
    given = {
        node.value
        for path in TESTS.rglob("*.py")
        if path != Path(__file__)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for pattern, why in allowed.items():
        assert any(re.fullmatch(pattern, text) for text in given), pattern
        assert why
