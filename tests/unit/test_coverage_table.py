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


@pytest.fixture(scope="module")
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
