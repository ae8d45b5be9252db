"""``unet-studio models`` and the store of models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tifffile

from unet_studio import __version__
from unet_studio.cli.console import out
from unet_studio.models.card import ModelCard
from unet_studio.models.store import find_model, list_models


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
    monkeypatch.setattr(out, "width", 200)
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


def test_info_says_how_images_are_prepared(unet_studio, home):
    import torch

    from unet_studio.models.brain_mri import card
    from unet_studio.models.model import Model, build_network, save_model

    small = card(options={"features": 2}, patch=(32, 64))
    torch.manual_seed(0)
    save_model(Model(small, build_network(small)), home / "brain.safetensors")
    ended = unet_studio("models", "info", "brain")
    assert "resized to 256 × 256 pixels by splines of order 2" in ended.out
    assert "32 × 64 px" in ended.out
    assert "to multiples of 16 px" in ended.out


def test_info_as_json_is_the_card(unet_studio, home):
    ended = unet_studio("models", "info", "mine", "--json")
    assert ModelCard.model_validate(json.loads(ended.out)).licence == "CC0-1.0"


@pytest.mark.parametrize("reference", ["torn", "yours", "no/where.safetensors"])
def test_what_is_not_there_or_damaged_is_an_error(unet_studio, home, reference):
    ended = unet_studio("models", "info", reference)
    assert ended.code == 1
    assert reference in ended.err
    assert "Traceback" not in ended.err


def test_the_list_is_searched_and_tells_what_can_be_fetched(unet_studio, home, monkeypatch):
    monkeypatch.setattr(out, "width", 200)
    ended = unet_studio("models", "list", "--search", "membrane")
    assert "em-membranes" in ended.out
    assert "mine" not in ended.out
    assert "brain-mri" in unet_studio("models", "list", "--search", "mri").out
    assert "No model matches" in unet_studio("models", "list", "-s", "zebra").out


def test_import_remove_and_import_again(unet_studio, home, tiny_model):
    ended = unet_studio("models", "import", tiny_model, "--name", "second")
    assert ended.code == 0
    assert (home / "second.safetensors").read_bytes() == tiny_model.read_bytes()
    assert "second" in ended.out
    again = unet_studio("models", "import", tiny_model, "--name", "second")
    assert again.code == 1
    assert "already a model 'second'" in again.err
    ended = unet_studio("models", "remove", "second", "--yes")
    assert ended.code == 0
    assert not (home / "second.safetensors").exists()
    assert list((home.parent / "removed").rglob("second.safetensors"))


def test_a_wrong_choice_is_named(unet_studio, home, tiny_model):
    ended = unet_studio("models", "import", tiny_model, "--set", "fast")
    assert ended.code == 1
    assert "NAME=VALUE" in ended.err


def test_fetch_by_address_is_announced_checked_and_recorded(unet_studio, home, tiny_model, web):
    web.pages["/tiny.safetensors"] = web.page(tiny_model.read_bytes())
    url = web.url("/tiny.safetensors")
    wrong = unet_studio("models", "fetch", url, "--sha256", "0" * 64)
    assert wrong.code == 1
    assert "SHA-256" in wrong.err
    assert not (home / "tiny.safetensors").exists()
    ended = unet_studio("models", "fetch", url, "--name", "fetched")
    assert ended.code == 0, ended.err
    assert f"Fetching {url}" in ended.out
    assert (home / "fetched.safetensors").read_bytes() == tiny_model.read_bytes()
    info = unet_studio("models", "info", "fetched").out
    assert url in info
    asked = len(web.requests)
    assert unet_studio("models", "fetch", url, "--name", "fetched").code == 0
    assert len(web.requests) == asked, "what is here is not fetched again"


def test_how_to_get_a_model_without_a_network_is_told_without_a_network(unet_studio, home, web):
    ended = unet_studio("models", "fetch", "brain-mri", "--print-url")
    assert ended.code == 0
    assert "unet-e012d006.pt" in ended.out
    assert "unet-studio models fetch brain-mri" in ended.out
    assert not web.requests


def test_the_folder_is_printed_and_made(unet_studio, tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "new"))
    assert unet_studio("models", "folder").out == f"{tmp_path / 'new' / 'models'}\n"
    assert (tmp_path / "new" / "models").is_dir()


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


@pytest.mark.parametrize("kind", ["bioimageio", "onnx", "torchscript"])
def test_export_writes_what_others_use(kind, unet_studio, home, tmp_path):
    target = tmp_path / {"bioimageio": "m.zip", "onnx": "m.onnx", "torchscript": "m.pt"}[kind]
    ended = unet_studio("models", "export", "mine", "--to", kind, "-o", target)
    assert ended.code == 0, ended.err
    assert target.stat().st_size > 100_000
    again = unet_studio("models", "export", "mine", "--to", kind, "-o", target)
    assert again.code == 1
    assert "--replace" in again.err
    if kind == "bioimageio":
        assert unet_studio("models", "import", target, "--name", "back").code == 0
        assert "BioImage Model Zoo" in unet_studio("models", "info", "back").out


def test_what_to_export_is_told_by_the_ending(unet_studio, home, tmp_path):
    assert unet_studio("models", "export", "mine", "-o", tmp_path / "m.onnx").code == 0
    assert (tmp_path / "m.onnx").read_bytes()[:1] == b"\x08", "ONNX, not a package"
    for arguments, words in (
        (("-o", tmp_path / "m.tar"), "m.tar ends does not tell what to write"),
        (("-o", tmp_path / "m.zip", "--to", "onnx"), "m.zip should end in .onnx"),
        (("-o", tmp_path / "m.onnx", "--to", "torchscript"), "m.onnx should end in .pt"),
    ):
        ended = unet_studio("models", "export", "mine", *arguments)
        assert ended.code == 1
        assert words in ended.err
    assert [p.name for p in tmp_path.glob("m.*")] == ["m.onnx"]


def test_what_is_here_already_is_not_fetched(unet_studio, home, tiny_model):
    assert "'mine' is here already" in unet_studio("models", "fetch", "mine").err
    assert f"models import {tiny_model}" in unet_studio("models", "fetch", tiny_model).err


def test_files_of_the_folder_that_are_no_models_are_told(unet_studio, home):
    ended = unet_studio("models", "list")
    assert "not listed" in ended.err
    assert "torn.safetensors is truncated" in ended.err
    assert "came with U-Net Studio" in unet_studio("models", "info", "nuclei").out
    assert "put into the folder" in unet_studio("models", "info", "mine").out


def test_one_configuration_and_fold_of_nnunet_is_imported(unet_studio, home):
    folder = Path(__file__).parents[1] / "models" / "nnunet" / "data"
    ended = unet_studio("models", "import", str(folder))
    assert ended.code != 0
    assert "more than one trained configuration" in ended.err
    options = ("--set", "configuration=2d", "--set", "fold=1")
    ended = unet_studio("models", "import", str(folder), "--name", "flat", *options)
    assert ended.code == 0, ended.err
    assert "Recognised: nnunet" in ended.out
    card = find_model("flat").card
    assert card.training["folds"] == ["1"]
    assert card.ndim == 2
