"""Models that nnU-Net trained give here what its own predictor gave, and go into the store.

``data`` is made by ``benchmarks/nnunet_side.py fixture`` with nnU-Net itself: two
configurations of two folds, one stack of thick slices with an empty border, and nnU-Net's
labels of it. The plans turn the axes, resample, and normalise one channel as MRI, one as CT.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from support.overlap import dice
from unet_studio.errors import AxesError, ModelError
from unet_studio.images.volume import as_volume
from unet_studio.models.importing import import_model
from unet_studio.models.model import load_model
from unet_studio.models.nnunet import recognises
from unet_studio.pipeline import predict, segment

DATA = Path(__file__).parent / "data"
FLAT = DATA / "nnUNetTrainer_20epochs__nnUNetPlans__2d"
SOLID = DATA / "nnUNetTrainer_20epochs__nnUNetPlans__3d_fullres"
RUNS = [(FLAT, "0"), (FLAT, "0,1"), (SOLID, "0"), (SOLID, "0,1")]


@pytest.fixture(scope="module")
def case():
    with np.load(DATA / "case.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def stack(case):
    return as_volume(
        case["image"],
        "CZYX",
        scale=(1, 3.5, 1, 1),
        units=("pixel", "millimeter", "millimeter", "millimeter"),
    )


def expected(case, folder, folds):
    return case["-".join((folder.name.rpartition("__")[2], *folds.split(",")))]


@pytest.mark.parametrize(
    ("folder", "folds"), RUNS, ids=[f"{f.name.rpartition('__')[2]}-{n}" for f, n in RUNS]
)
def test_labels_are_those_of_nnunet(folder, folds, case, stack):
    model = load_model(f"nnunet:{folder}?fold={folds}")
    result = segment(stack, model, precision="float32")
    reference = expected(case, folder, folds)
    assert result.labels.shape == reference.shape == case["image"].shape[1:]
    for label in (1, 2):
        assert (reference == label).sum() > 50
        assert dice(result.labels == label, reference == label) >= 0.99
    assert not result.labels[(case["image"] == 0).all(axis=0)].any()
    assert result.warnings == model.notes
    assert bool(model.notes) is ("," in folds)


@pytest.mark.parametrize("folder", [FLAT, SOLID], ids=["2d", "3d"])
def test_the_folds_of_the_fixture_differ(folder, case):
    """Else an average of them would say nothing."""
    assert (expected(case, folder, "0") != expected(case, folder, "0,1")).sum() > 10


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_the_store_takes_a_folder_or_a_zip_and_the_model_does_the_same(
    packed, case, stack, tmp_path
):
    source = SOLID
    if packed:
        source = tmp_path / "exported.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in SOLID.rglob("*.*"):
                archive.write(path, f"Dataset004/{SOLID.name}/{path.relative_to(SOLID)}")
    imported = import_model(source, name="balls")
    assert any("2 networks (folds 0, 1) are averaged" in note for note in imported.notes)
    card = imported.entry.card
    assert card.classes == ("background", "ball", "core")
    assert (card.architecture, card.ndim, card.in_channels) == ("nnunet", 3, 2)
    assert card.training["folds"] == ["0", "1"]
    assert "MRI, CT" in card.description
    model = load_model("balls")
    found = segment(stack, model, precision="float32").labels
    assert dice(found > 0, expected(case, SOLID, "0,1") > 0) >= 0.99


def test_the_window_is_offered_nnunets_folders_and_nothing_else(tmp_path):
    assert recognises(SOLID)
    assert recognises(DATA)
    assert not recognises(tmp_path)
    assert not recognises(SOLID / "plans.json")
    # nnU-Net leaves both descriptions beside its predictions.
    for name in ("plans.json", "dataset.json"):
        shutil.copy(SOLID / name, tmp_path / name)
    assert not recognises(tmp_path)


def test_pixel_sizes_count_and_their_units_are_understood(case, stack):
    model = load_model(f"nnunet:{SOLID}?fold=0")
    options = {"precision": "float32", "keep": "logits"}
    reference = predict(stack, model, **options)
    sizes = {"scale": (1, 3500, 1000, 1000), "units": ("pixel",) + ("micrometer",) * 3}
    same = predict(as_volume(case["image"], "CZYX", **sizes), model, **options)
    np.testing.assert_allclose(same.probabilities, reference.probabilities, atol=1e-4)
    bare = segment(case["image"], model, axes="CZYX", precision="float32")
    assert any("does not say how large its pixels are" in text for text in bare.warnings)
    assert (bare.labels != expected(case, SOLID, "0")).any()


def test_wrong_pixel_sizes_are_refused_before_memory_is_taken(case):
    sizes = {"scale": (1, 3500, 1000, 1000), "units": ("pixel",) + ("millimeter",) * 3}
    with pytest.raises(AxesError, match="Correct the pixel size of the image, or its unit"):
        segment(as_volume(case["image"], "CZYX", **sizes), load_model(f"nnunet:{SOLID}?fold=0"))


def test_options_that_there_are_not_are_told():
    for what in ("speed=3", "trainer=mine"):
        with pytest.raises(ModelError, match="no option"):
            load_model(f"nnunet:{SOLID}?{what}")
    with pytest.raises(ModelError, match=r"no fold '7'.*it has 0, 1"):
        load_model(f"nnunet:{SOLID}?fold=7")
    with pytest.raises(ModelError, match="no fold with checkpoint_best.pth"):
        load_model(f"nnunet:{SOLID}?checkpoint=checkpoint_best.pth")
    with pytest.raises(ModelError, match="no such trained configuration"):
        load_model(f"nnunet:{DATA}?configuration=3d_lowres")
