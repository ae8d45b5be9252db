"""Recipes as files: what a person writes, and what the program writes."""

from __future__ import annotations

import pytest

from unet_studio import Recipe, load_recipe, save_recipe
from unet_studio.batch.recipe_file import recipe_text
from unet_studio.errors import RecipeError
from unet_studio.recipe import ObjectsMethod, Tiling


def test_the_model_alone_is_a_recipe(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('model = "nuclei"\n')
    assert load_recipe(path) == Recipe(model="nuclei")


def test_what_was_saved_is_loaded(tmp_path):
    recipe = Recipe(
        model="nuclei",
        axes="ZYX",
        channels=(1, 0),
        tiling=Tiling(tile=256, quality="balanced"),
        objects=ObjectsMethod(
            method="components", options={"min_size": 3, "label": None, "ä b": "x"}, link=True
        ),
        flips=False,
    )
    path = save_recipe(recipe, tmp_path / "r.toml")
    loaded = load_recipe(path)
    assert loaded.objects.options == {"min_size": 3, "ä b": "x"}  # None is TOML's nothing
    assert loaded.model_copy(update={"objects": None}) == recipe.model_copy(
        update={"objects": None}
    )
    assert loaded.objects.link == recipe.objects.link


def test_only_what_was_chosen_is_written():
    assert recipe_text(Recipe(model="nuclei")) == 'version = 1\nmodel = "nuclei"\n'
    assert "precision" in recipe_text(Recipe(model="nuclei"), defaults=True)


def test_a_model_beside_the_recipe_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "m.safetensors").write_bytes(b"")
    (tmp_path / "r.toml").write_text('model = "m.safetensors"\n')
    monkeypatch.chdir("/")
    assert load_recipe(tmp_path / "r.toml").model == str(tmp_path / "m.safetensors")


def test_a_relative_model_is_saved_with_its_whole_path(tmp_path, monkeypatch):
    (tmp_path / "m.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    save_recipe(Recipe(model="m.safetensors"), "r.toml")
    assert str(tmp_path / "m.safetensors") in (tmp_path / "r.toml").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('model = "m"\n\n[tiling]\ntil = 256\n', r"tiling\.til \(line 4\).*perhaps 'tile'"),
        ('model = "m"\n[tiling]\ntile = 8\n', r"tiling\.tile \(line 3\).*greater than or equal"),
        ('modle = "m"\n', r"model: has to be given.*modle \(line 1\).*perhaps 'model'"),
        ('model = "m"\n[objects]\n', r"objects\.method \(line 2\): has to be given"),
        ('model = "m"\nchannels = ["r"]\n', r"channels\.0 \(line 2\)"),
        ('version = 2\nmodel = "m"\n', r"\(line 1\) has version 2; this program reads version 1"),
        ('model = "m\n', r"not valid TOML.*line 1"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, text, said):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=said) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_what_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "r.toml"
    if content:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"r\.toml"):
        load_recipe(path)
