"""What makes two results the same: all that they depend on, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from unet_studio import run_batch
from unet_studio.batch.job import Job
from unet_studio.batch.keys import recipe_key
from unet_studio.images.readers import read_image
from unet_studio.models.model import load_model
from unet_studio.recipe import Linking, Normalisation, ObjectsMethod, Recipe, Tiling

MODEL = "random:unet-tiny"
RECIPE = Recipe(model=MODEL)


@pytest.fixture(scope="module")
def card():
    return load_model(MODEL).card


@pytest.fixture
def info(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((32, 40), np.uint8))
    return read_image(path).info


def test_what_is_asked_for_by_name_is_what_is_asked_for_by_default(card, info):
    from unet_studio.objects.methods import parse_options

    own = card.default_objects
    named = [
        {"flips": card.flips},
        {"channels": (0,)},
        {"axes": "YX"},
        {"objects": own},
        {"objects": own.model_copy(update={"options": parse_options(own).model_dump()})},
        {"objects": own.model_copy(update={"link": Linking()})},  # there is no time
        {"normalisation": card.normalisation},
        {"device": "cpu"},
        {"backend": "torch"},
        {"tiling": Tiling(batch=2)},
    ]
    by_default = recipe_key(Job(RECIPE, card=card), info)
    for values in named:
        recipe = RECIPE.model_copy(update=values)
        assert recipe_key(Job(recipe, card=card), info) == by_default, values


def test_what_changes_the_result_changes_its_key(card, info):
    changes = [
        {},
        {"flips": not card.flips},
        {"objects": ObjectsMethod(method="threshold")},
        {"objects": ObjectsMethod(method="threshold", options={"threshold": 0.4})},
        {"normalisation": Normalisation(method="zscore")},
        {"precision": "bfloat16"},
        {"tiling": Tiling(quality="fast")},
        {"measure": False},
    ]
    keys = [recipe_key(Job(RECIPE.model_copy(update=c), card=card), info) for c in changes]
    keys.append(recipe_key(Job(RECIPE, card=card, probabilities=True), info))
    keys.append(recipe_key(Job(RECIPE, "another model", card=card), info))
    assert len(set(keys)) == len(keys)


def test_defaults_of_the_model_are_in_the_key(card, info):
    other = card.model_copy(update={"flips": not card.flips})
    assert recipe_key(Job(RECIPE, card=other), info) != recipe_key(Job(RECIPE, card=card), info)


def test_a_batch_is_complete_however_the_same_is_asked_for(tmp_path, card):
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 255, (32, 40)).astype(np.uint8)
        tifffile.imwrite(folder / f"{number}.tif", image)
    recipe = RECIPE.model_copy(update={"device": "cpu"})
    assert run_batch(recipe, [folder], out).done == 2
    by_name = {"flips": card.flips, "channels": (0,), "objects": card.default_objects}
    report = run_batch(recipe.model_copy(update=by_name), [folder], out)
    assert (report.done, report.skipped) == (0, 2)
    report = run_batch(recipe.model_copy(update={"flips": not card.flips}), [folder], out)
    assert (report.done, report.skipped) == (2, 0)
