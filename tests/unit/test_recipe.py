"""Recipes: frozen, strict, and the same after a round trip through JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unet_studio import Recipe
from unet_studio.errors import RecipeError
from unet_studio.recipe import Linking, Normalisation, ObjectsMethod, Tiling, parse_recipe

options = st.dictionaries(st.text(max_size=8), st.integers() | st.booleans() | st.text(max_size=8))
recipes = st.builds(
    Recipe,
    model=st.text(min_size=1, max_size=20),
    axes=st.none() | st.sampled_from(["YX", "ZYX", "TCZYX"]),
    channels=st.none() | st.lists(st.integers(0, 9), min_size=1).map(tuple),
    normalisation=st.none() | st.builds(Normalisation, method=st.text(), options=options),
    tiling=st.builds(
        Tiling,
        tile=st.none() | st.integers(16, 4096),
        halo=st.none() | st.integers(0, 999),
        batch=st.none() | st.integers(1, 256),
    ),
    objects=st.none()
    | st.builds(
        ObjectsMethod,
        method=st.text(),
        options=options,
        link=st.none()
        | st.builds(Linking, min_overlap=st.floats(0.05, 1), max_gap=st.integers(0, 100)),
    ),
    measure=st.booleans(),
    device=st.sampled_from(["auto", "cpu", "cuda:1"]),
)


@given(recipes)
def test_json_gives_the_same_recipe_back(recipe):
    assert parse_recipe(json.loads(recipe.model_dump_json())) == recipe


def test_a_recipe_can_not_be_changed():
    recipe = Recipe(model="nuclei")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.model = "other"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "model"),
        ({"model": "m", "modle": "m"}, "modle"),
        ({"model": "m", "tiling": {"tile": 8}}, "tiling.tile"),
        ({"model": "m", "tiling": {"batch": 0}}, "tiling.batch"),
        ({"model": "m", "objects": {"options": {}}}, "objects.method"),
        ({"model": "m", "objects": {"method": "x", "link": {"gap": 1}}}, "objects.link.gap"),
        (
            {"model": "m", "objects": {"method": "x", "link": {"min_overlap": 0}}},
            "objects.link.min_overlap",
        ),
        ({"model": "m", "channels": ["red"]}, "channels.0"),
        ({"model": "m", "version": 2}, "version"),
    ],
)
def test_every_wrong_setting_is_named(values, named):
    with pytest.raises(RecipeError, match=named.replace(".", r"\.")):
        parse_recipe(values)


def test_all_wrong_settings_are_named_at_once():
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"model": "m", "tiling": {"tile": 1, "halo": -1}, "speed": 9})
    assert all(name in str(caught.value) for name in ("tiling.tile", "tiling.halo", "speed"))


@pytest.mark.parametrize(("given_", "link"), [(True, Linking()), (False, None), (None, None)])
def test_linking_can_be_switched(given_, link):
    assert ObjectsMethod(method="components", link=given_).link == link
