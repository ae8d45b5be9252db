"""Recipes as files: what a person writes, and what the program writes."""

from __future__ import annotations

import pytest

from unet_studio import Recipe, load_recipe, save_recipe
from unet_studio.batch.recipe_file import check_recipe, recipe_text
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
            method="components", options={"min_size": 3, "threshold": None}, link=True
        ),
        flips=False,
    )
    path = save_recipe(recipe, tmp_path / "r.toml")
    loaded = load_recipe(path)
    assert loaded.objects.options == {"min_size": 3}  # None is TOML's nothing
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
        ('model = "m"\nchannels = 0\n', r"channels \(line 2\): has to be a list, such as \[0\]"),
        ('model = "m"\naxes = "QQ"\n', r"axes \(line 2\): Axes 'QQ' hold Q; use letters"),
        ('device = "gpu"\nmodel = "m"\n', r"device \(line 1\): There is no device called 'gpu'"),
        (
            'model = "m"\n[objects]\nmethod = "watershd"\n',
            r"objects \(line 2\): There is no objects method .*'watershed' is meant",
        ),
        (
            'model = "m"\nobjects = { method = "watershed", options = { min_sise = 3 } }\n',
            r"objects \(line 2\): .*no option 'min_sise'.*Perhaps 'min_size' is meant",
        ),
        (
            'model = "m"\n[objects]\nmethod = "watershed"\noptions = { min_size = -3 }\n',
            r"objects \(line 2\): .*min_size: .*greater than or equal",
        ),
        (
            'model = "m"\n\n[normalisation]\nmethod = "percentil"\n',
            r"normalisation \(line 3\): There is no normaliser.*Perhaps 'percentile' is meant",
        ),
        (
            'model = "m"\nnormalisation = { method = "zscore", options = { epps = 1 } }\n',
            r"normalisation \(line 2\): .*has no option 'epps'.*Perhaps 'eps' is meant",
        ),
        ('axes = "Q"\nmodel = "m"\ndevice = "gpu"\n', r"axes \(line 1\).*; device \(line 3\)"),
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


@pytest.mark.parametrize("axes", ["yx", "YXS", "TCZYX"])
def test_axes_that_readers_take_are_taken(tmp_path, axes):
    path = tmp_path / "r.toml"
    path.write_text(f'model = "nuclei"\naxes = "{axes}"\n')
    assert check_recipe(path).axes == axes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('model = "nucleii"\n', r"model: There is no model called 'nucleii'.*'nuclei' is meant"),
        ('model = "nuclei"\n[objects]\nmethod = "argmax"\n', "'argmax' can not be used with the"),
    ],
)
def test_a_recipe_is_checked_with_its_model(tmp_path, text, said):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=said) as caught:
        check_recipe(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_what_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "r.toml"
    if content:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"r\.toml"):
        load_recipe(path)
