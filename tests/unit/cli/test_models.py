"""``unet-studio models`` and the store of models."""

from __future__ import annotations

import json
import shutil

import pytest
import tifffile

from unet_studio import __version__
from unet_studio.models.card import ModelCard
from unet_studio.models.store import list_models


@pytest.fixture
def home(tmp_path, monkeypatch, tiny_model):
    """A store with one good and one damaged model."""
    folder = tmp_path / "home" / "models"
    folder.mkdir(parents=True)
    shutil.copy(tiny_model, folder / "mine.safetensors")
    (folder / "torn.safetensors").write_bytes(tiny_model.read_bytes()[:-100])
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "home"))
    return folder


def test_the_list_names_every_good_model_and_the_folder(unet_studio, home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ended = unet_studio("models", "list")
    assert ended.code == 0
    assert "mine" in ended.out
    assert "torn" not in ended.out
    assert str(home) in ended.out
    assert all(entry.name in ended.out for entry in list_models())


def test_an_empty_store_is_no_error(unet_studio, tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "new"))
    assert unet_studio("models", "list").code == 0


def test_info_by_name_and_by_path(unet_studio, home, tiny_model):
    for reference in ("mine", tiny_model):
        ended = unet_studio("models", "info", reference)
        assert ended.code == 0
        assert "CC0-1.0" in ended.out
        assert "1 channel\n" in ended.out
    assert str(tiny_model) in ended.out, "a path is shown whole"


def test_info_as_json_is_the_card(unet_studio, home):
    ended = unet_studio("models", "info", "mine", "--json")
    assert ModelCard.model_validate(json.loads(ended.out)).licence == "CC0-1.0"


@pytest.mark.parametrize("reference", ["torn", "yours", "no/where.safetensors"])
def test_what_is_not_there_or_damaged_is_an_error(unet_studio, home, reference):
    ended = unet_studio("models", "info", reference)
    assert ended.code == 1
    assert reference in ended.err
    assert "Traceback" not in ended.err


def test_a_model_of_the_store_can_be_run(unet_studio, home, tmp_path):
    import numpy as np

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((32, 32), np.uint8))
    assert unet_studio("segment", tmp_path / "a.tif", "-m", "mine", "-o", tmp_path / "r").code == 0
    record = json.loads((tmp_path / "r" / "a_labels.tif.json").read_text())
    assert record["recipe"]["model"] == "mine"


def test_version_and_help(unet_studio):
    assert unet_studio("--version").out == f"unet-studio {__version__}\n"
    ended = unet_studio("--help")
    assert ended.code == 0
    for command in ("demo", "segment", "evaluate", "models"):
        assert command in ended.out
