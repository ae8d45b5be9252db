"""Paths as users write them: home folders, names that begin like one, names too long."""

from __future__ import annotations

from pathlib import Path

import pytest
import tifffile

from unet_studio import load_recipe, read_image
from unet_studio.errors import ModelError
from unet_studio.models.store import find_model
from unet_studio.user_paths import is_file, user_path


def test_the_home_folder_is_meant_by_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert user_path("~/a.tif") == tmp_path / "a.tif"
    assert user_path(Path("a~b.tif")) == Path("a~b.tif")


def test_a_file_whose_name_begins_with_a_tilde(monkeypatch, tmp_path):
    tifffile.imwrite(tmp_path / "~cells.tif", [[1, 2], [3, 4]])
    monkeypatch.chdir(tmp_path)
    assert user_path("~cells.tif") == Path("~cells.tif")
    assert read_image("~cells.tif").read().tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_what_can_be_no_file_is_no_model(name, tmp_path):
    assert not is_file(name)
    with pytest.raises(ModelError, match="There is no model called"):
        find_model(name)
    path = tmp_path / "recipe.toml"
    path.write_text(f'model = "{name}"'.replace("\0", r"\u0000"))
    assert load_recipe(path).model == name
