"""The page of promises: each has a test or a reason, and the page is that of this tree."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "make_coverage_table.py"


@pytest.fixture(scope="module")
def table():
    spec = spec_from_file_location("make_coverage_table", SCRIPT)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def found(table):
    return table.promises()


def test_the_list_is_whole(found):
    numbers = {"F": 96, "P": 24, "L": 12, "S": 24}
    assert sorted(found.ids) == sorted(
        f"{letter}{n:02}" for letter, count in numbers.items() for n in range(1, count + 1)
    )


def test_every_promise_has_a_test_or_a_reason(table, found):
    assert table.problems(found) == []


def test_few_are_left(found):
    assert len(found.not_covered) <= 5, "the list of what is not covered only gets shorter"


def test_the_page_is_up_to_date(table, found):
    written = table.PAGE.read_text(encoding="utf-8")
    assert written == table.page(found), "run: python docs/make_coverage_table.py"


def test_what_is_wrong_is_said(table, tmp_path):
    tests = tmp_path / "tests"
    tests.mkdir()
    (tmp_path / "benchmarks").mkdir()
    (tests / "test_a.py").write_text(
        "@pytest.mark.slow\ndef test_F02_x():\n    pass\n"
        "def test_F97_y():\n    pass\n"
        "@pytest.mark.parametrize('v', [1], ids=['F59_z'])\ndef test_z(v):\n    pass\n"
        "def test_sizes_f8_and_P100():\n    pass\n"
    )
    found = table.promises(tmp_path)
    assert found.covers["F02"] == [table.Cover("test_a.py::test_F02_x", "slow")]
    found.not_covered["F59"] = "of some reason"
    said = "\n".join(table.problems(found))
    assert "F01 (an image of zeros: no objects, one warning) has no test." in said
    assert "F97 in test_a.py::test_F97_y is not on the list." in said
    assert "F59 has a test now: take it off [not_covered]." in said
    assert set(found.covers) == {"F02", "F97", "F59"}


def test_the_last_result_is_told(table, found, tmp_path):
    """Of every item; of what is not run before every merge, what was noted of it."""
    rows = [line for line in table.page(found).splitlines() if line.startswith(("| F", "| L"))]
    assert all(row.split(" | ")[3] for row in rows)
    found = table.Promises([("T", {"F01": "a", "L01": "b"})], {}, {})
    slow, gpu = table.Cover("test_a.py::test_x", "slow"), table.Cover("gpu/test_b.py::y", "gpu")
    found.covers = {"F01": [slow, table.Cover("test_a.py::test_z", "normal")], "L01": [slow]}
    found.on_gpu = [gpu]
    assert "| every merge<br>slow: none noted |" in table.page(found)
    assert "| `gpu/test_b.py::y` | never run |" in table.page(found)
    found.results = {
        "tests": {slow.name: {"outcome": "failed", "date": "2026-11-01", "on": "Linux"}},
        "measured": {"L01": {"table": "a.md", "row": "1 |", "says": "1 s"}},
    }
    assert "| every merge<br>slow: failed 2026-11-01 (Linux) |" in table.page(found)
    del found.results["tests"]
    assert "| L01 | b | slow | `a.md`: 1 s |" in table.page(found)


def test_a_result_of_what_is_gone_is_said(table, found):
    found.results = {
        "tests": {"test_gone.py::test_F01": {}},
        "measured": {"L01": {"table": "streaming.md", "row": "no such row", "says": ""}},
    }
    said = "\n".join(table.problems(found))
    assert "there is no slow or gpu test test_gone.py::test_F01" in said
    assert "streaming.md does not hold what is noted of L01" in said
