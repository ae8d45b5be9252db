"""Registries: names lead to parts, on first use only, and others can add theirs."""

from __future__ import annotations

import sys

import pytest

from unet_studio.errors import RecipeError
from unet_studio.registry import Registry


@pytest.fixture
def fruit():
    return Registry("fruit", {"sum": "math:fsum", "odd": "no_such_module:x"}, "unet_studio.fruit")


def test_a_part_is_imported_on_first_use(tmp_path, monkeypatch):
    (tmp_path / "lazy_part.py").write_text("def build():\n    return 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("part", {"seven": "lazy_part:build"}, "unet_studio.none")
    assert registry.names() == ["seven"]
    assert "seven" in registry
    assert "lazy_part" not in sys.modules
    assert registry.load("seven")() == 7
    assert registry.load("seven") is registry.load("seven")
    del sys.modules["lazy_part"]


def test_an_unknown_name_lists_the_known_ones(fruit):
    with pytest.raises(RecipeError, match="no fruit called 'pear'. Known: sum, odd"):
        fruit.load("pear")


def test_parts_are_added_at_run_time_but_never_replaced(fruit):
    part = object()
    fruit.register("apple", part)
    assert fruit.load("apple") is part
    fruit.register("hypot", "math:hypot")
    assert fruit.load("hypot")(3, 4) == 5
    assert list(fruit) == ["sum", "odd", "apple", "hypot"]
    with pytest.raises(ValueError, match="already a fruit called 'sum'"):
        fruit.register("sum", part)


def test_other_distributions_add_parts_but_replace_none(tmp_path, monkeypatch, fruit):
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[unet_studio.fruit]\nroot = math:sqrt\nsum = math:sqrt\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert fruit.load("root")(9) == 3
    assert fruit.load("sum")([1, 2]) == 3, "a built-in part stays what it is"
