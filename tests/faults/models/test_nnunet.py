"""Folders of nnU-Net that are incomplete, damaged, of unknown making, or meant badly."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from unet_studio.errors import ModelError
from unet_studio.models.importing import import_model
from unet_studio.models.nnunet.importing import import_nnunet

DATA = Path(__file__).parents[2] / "unit" / "models" / "nnunet" / "data"
CHECKPOINT = "fold_0/checkpoint_final.pth"


@pytest.fixture
def folder(tmp_path):
    """A good model of one fold."""
    source = DATA / "nnUNetTrainer_20epochs__nnUNetPlans__3d_fullres"
    target = tmp_path / source.name
    shutil.copytree(source, target)
    shutil.rmtree(target / "fold_1")
    import_nnunet(target)
    return target


def refused(path, pattern, **options):
    with pytest.raises(ModelError, match=pattern) as caught:
        import_nnunet(path, **options)
    assert "weights_only" not in str(caught.value)  # torch advises to trust the file: we do not


def edit(folder, name, change):
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def edit_checkpoint(folder, change):
    content = torch.load(folder / CHECKPOINT, weights_only=False)
    change(content)
    torch.save(content, folder / CHECKPOINT)


def zipped(folder, path, **more):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
        for name, content in more.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("place", ["network_weights", "logging", "init_args"])
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_s01_a_checkpoint_that_would_run_code(folder, canary, place, packed, tmp_path):
    edit_checkpoint(folder, lambda content: content.update({place: canary}))
    source = zipped(folder, tmp_path / "model.zip") if packed else folder
    refused(source, r"(posix|nt|os)\.mkdir, which could run code, so it was not read")


def test_s01_a_bare_pickle_under_the_checkpoints_name(folder, canary):
    import pickle

    (folder / CHECKPOINT).write_bytes(pickle.dumps(canary))
    refused(folder, "was not read|damaged")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>log in", b"\0" * 5000])
def test_f61_f63_no_checkpoint_at_all(folder, content):
    (folder / CHECKPOINT).write_bytes(content)
    refused(folder, "checkpoint_final.pth.*(truncated or damaged|holds more than numbers)")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_f62_a_truncated_checkpoint(folder, share):
    whole = (folder / CHECKPOINT).read_bytes()
    (folder / CHECKPOINT).write_bytes(whole[: int(share * len(whole))])
    refused(folder, "truncated or damaged")


def test_f65_other_weights_than_the_plans_say(folder):
    def wider(plans):
        network = plans["configurations"]["3d_fullres"]["architecture"]
        network["arch_kwargs"]["features_per_stage"] = [6, 8, 8]

    edit(folder, "plans.json", wider)
    refused(folder, r"do not fit the architecture.*shape")


def test_s20_a_network_without_end_takes_no_memory(folder):
    def endless(plans):
        network = plans["configurations"]["3d_fullres"]["architecture"]
        network["arch_kwargs"]["features_per_stage"] = [8192, 8192, 8192]

    edit(folder, "plans.json", endless)
    refused(folder, "of memory|do not fit")


def test_s20_a_large_tensor_of_few_bytes(folder):
    def hollow(content):
        name = next(iter(content["network_weights"]))
        content["network_weights"][name] = torch.zeros(1).expand(100_000, 100_000)

    edit_checkpoint(folder, hollow)
    refused(folder, "is not a checkpoint of nnU-Net")


def test_s20_a_checkpoint_that_is_compressed_inside(folder):
    path = folder / CHECKPOINT
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(folder, "compressed inside")


def test_s05_a_zip_with_a_name_that_leads_out(folder, tmp_path):
    path = zipped(folder, tmp_path / "evil.zip", **{"../../evil.txt": b"x"})
    refused(path, "not a plain name inside of it")


def test_s08_a_member_that_grows_without_end(folder, tmp_path):
    (folder / "dataset.json").write_bytes(b" " * (65 * 2**20) + b"{}")
    refused(folder, "far larger")
    path = zipped(folder, tmp_path / "bomb.zip")
    refused(path, "more than a model needs|at most")


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"[" * 100_000, b"{}"])
def test_damaged_descriptions(folder, name, content):
    (folder / name).write_bytes(content)
    refused(folder, "damaged|not what nnU-Net writes|can not be used|no usable configuration")


def test_a_description_that_was_not_copied(folder):
    (folder / "dataset.json").unlink()
    refused(folder, "has no dataset.json.*Copy the whole folder")


def test_a_folder_without_a_model_names_what_it_should_hold(tmp_path):
    refused(tmp_path, "no plans.json beside dataset.json and folders fold_0")
    refused(tmp_path / "nowhere", "There is no folder or file")


def test_a_trainer_of_unknown_making_is_used_only_on_demand(folder):
    edit_checkpoint(folder, lambda content: content.update(trainer_name="MyTrainer"))
    refused(folder, "'MyTrainer', which is not one of nnU-Net's own.*trainer=any")
    assert import_nnunet(folder, any_trainer=True).card.training["trainer"] == "MyTrainer"


def configuration(**changes):
    return lambda plans: plans["configurations"]["3d_fullres"].update(changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"previous_stage": "3d_lowres"}, "second stage of a cascade"),
        ({"preprocessor_name": "Mine"}, "'Mine', which is not known"),
        ({"normalization_schemes": ["Mine", "Mine"]}, "'Mine' is not known"),
        ({"normalization_schemes": ["ZScoreNormalization"]}, "belong to different models"),
        ({"resampling_fn_data": "mine"}, "resampling 'mine'"),
        ({"inherits_from": "3d_fullres"}, "no usable configuration"),
        ({"patch_size": [15, 8, 16]}, "can not pool"),
        ({"spacing": [0, 1, 1]}, "spacing"),
    ],
)
def test_plans_that_are_not_understood_are_not_guessed(folder, changes, words):
    edit(folder, "plans.json", configuration(**changes))
    refused(folder, words)


def test_a_part_of_the_network_that_is_not_torchs_is_not_imported(folder):
    def foreign(plans):
        network = plans["configurations"]["3d_fullres"]["architecture"]
        network["arch_kwargs"]["norm_op"] = "os.system"

    edit(folder, "plans.json", foreign)
    refused(folder, "'os.system'.*only parts of torch.nn")


def test_regions_are_not_taken_for_classes(folder):
    edit(folder, "dataset.json", lambda d: d["labels"].update(ball=[1, 2]))
    refused(folder, "'ball' is a region")


def test_nothing_is_left_in_the_store_when_an_import_fails(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "home"))
    edit_checkpoint(folder, lambda content: content.update(trainer_name="MyTrainer"))
    with pytest.raises(ModelError, match="MyTrainer"):
        import_model(folder, name="mine")
    models = tmp_path / "home" / "models"
    assert not models.exists() or not list(models.iterdir())
