"""benchmarks/mutants.py stays able to run: its texts are found, and its tests exist."""

from __future__ import annotations

import ast
import shutil
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _load():
    spec = spec_from_file_location("mutants", ROOT / "benchmarks" / "mutants.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


mutants = _load()


def test_there_are_ten():
    assert len({m.name for m in mutants.MUTANTS}) == len(mutants.MUTANTS) == 10


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda m: m.name)
def test_a_mutant_can_be_applied_and_is_still_python(mutant, tmp_path):
    copy = tmp_path / mutants.SOURCE / mutant.file
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / mutants.SOURCE / mutant.file, copy)
    before = ast.dump(ast.parse(copy.read_text(encoding="utf-8")))
    mutant.apply(tmp_path)
    assert ast.dump(ast.parse(copy.read_text(encoding="utf-8"))) != before
    for name in mutant.tests:
        path, _, test = name.partition("::")
        assert f"def {test or 'test_'}" in (ROOT / "tests" / path).read_text(encoding="utf-8")


def test_a_stale_mutant_is_refused(tmp_path):
    mutant = replace(mutants.MUTANTS[0], old="no such text")
    shutil.copytree(ROOT / mutants.SOURCE / "inference", tmp_path / mutants.SOURCE / "inference")
    with pytest.raises(LookupError, match="stale: its text occurs 0 times"):
        mutant.apply(tmp_path)


def test_the_committed_table_is_of_these_mutants():
    table = (ROOT / "benchmarks" / "results" / "mutants.md").read_text(encoding="utf-8")
    for mutant in mutants.MUTANTS:
        assert f"| {mutant.name} | {mutant.why} | `{mutant.file}` | `" in table
    assert "10 of 10 are caught" in table
