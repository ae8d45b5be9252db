"""The brain MRI model: fetched and checked, and equal to what its authors' code gives."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from support.overlap import dice
from unet_studio.errors import DownloadError, ModelError
from unet_studio.models import brain_mri, catalogue
from unet_studio.models.download import Limits
from unet_studio.models.fetching import fetch_model
from unet_studio.models.importing import import_model
from unet_studio.models.model import load_model
from unet_studio.models.networks.hub_unet import HubUNet
from unet_studio.pipeline import predict, segment

QUICK = Limits(connect_s=2, window_s=1, attempts=2, first_pause_s=0.05)


@pytest.fixture(scope="module")
def reference(request):
    return request.getfixturevalue("shared_data") / "reference_brain_mri"


@pytest.fixture(scope="module")
def model(reference):
    return brain_mri.brain_mri_model(reference / "substitute_state_dict.pt")


@pytest.fixture(scope="module")
def patient(shared_data):
    """Raw slices (Z, Y, X, C) of the patient that the reference was not trained on, and truth."""
    folder = shared_data / "lgg_mri_slices" / "val"
    paths = sorted((folder / "images").glob("TCGA_CS_4944_*.png"))
    read = [np.asarray(Image.open(p)) for p in paths]
    truth = [np.asarray(Image.open(folder / "masks" / p.name)) > 0 for p in paths]
    return np.stack(read), np.stack(truth)


# -- against the reference -----------------------------------------------------


def test_the_network_gives_the_reference_probabilities(model, reference, shared_data):
    given = np.load(reference / "TCGA_CS_4944_inputs.npz")
    patient = np.load(reference / "patient_4944_prob_18x256x256.npy")
    png = np.asarray(Image.open(shared_data / "example" / "TCGA_CS_4944.png"))[..., :3]
    by_volume = (png / 255 - given["volume_mean"]) / given["volume_std"]
    for shown, expected in (
        (given["true_volume_normalised_slice8"], patient[8]),
        (by_volume, np.load(reference / "example_prob_volume_normalised.npy")),
        (given["per_image_z"], np.load(reference / "example_prob_per_image_zscore.npy")),
    ):
        tensor = torch.from_numpy(shown.astype(np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            found = model.network(tensor).sigmoid().numpy()
        assert np.abs(found.squeeze() - expected.squeeze()).max() <= 1e-4


def test_raw_slices_are_prepared_as_the_reference_does(model, reference, patient):
    """All 18 slices that the reference keeps, through our whole path up to the network."""
    images, _ = patient
    prepared = brain_mri_slices(images)
    expected = np.load(reference / "patient_4944_prob_18x256x256.npy")
    with torch.inference_mode():
        found = np.concatenate(
            [model.network(torch.from_numpy(s[None])).sigmoid().numpy()[0] for s in prepared]
        )
    assert np.abs(found[1:-1] - expected).max() <= 1e-4


def brain_mri_slices(images):
    from unet_studio.axes import Axes
    from unet_studio.images.brain_mri import BrainMri

    frame = np.moveaxis(images, -1, 0).astype(np.float32)
    return np.ascontiguousarray(BrainMri().prepare(frame, Axes("ZYX")).image.swapaxes(0, 1))


def test_a_patient_from_the_raw_slices(model, patient):
    images, truth = patient
    result = segment(images, model, axes="ZYXC")
    assert result.labels.shape == truth.shape
    assert dice(result.labels > 0, truth) >= 0.88
    assert result.labels.max() == 1
    assert "preparation" in str(result.record)


@pytest.mark.slow
def test_channels_may_come_first(model, patient):
    images, _ = patient
    channels_last = segment(images, model, axes="ZYXC").labels
    channels_first = segment(np.moveaxis(images, -1, 0), model, axes="CZYX").labels
    np.testing.assert_array_equal(channels_first, channels_last)


def test_a_single_slice_is_scaled_by_itself(model, reference, shared_data, patient):
    image = np.asarray(Image.open(shared_data / "example" / "TCGA_CS_4944.png"))[..., :3]
    found = predict(image, model, axes="YXC", precision="float32").probabilities
    expected = np.load(reference / "example_prob_per_image_zscore.npy").squeeze()
    assert np.abs(found[0].astype(np.float32) - expected).max() <= 1e-3  # kept as float16
    truth = np.load(reference / "TCGA_CS_4944_inputs.npz")["gt_slice8"]
    assert dice(found[0] > 0.5, truth) > 0.94


@pytest.mark.slow
def test_a_package_of_it_gives_the_same_probabilities(model, shared_data, tmp_path):
    from unet_studio.models.zoo.exporting import export_bioimageio
    from unet_studio.models.zoo.importing import import_package

    back = import_package(export_bioimageio(model, tmp_path / "package.zip"))
    assert back.card.preparation == model.card.preparation
    image = np.asarray(Image.open(shared_data / "example" / "TCGA_CS_4944.png"))[..., :3]
    given, found = (predict(image, m, axes="YXC").probabilities for m in (model, back))
    assert given.max() > 0.9
    np.testing.assert_array_equal(found, given)


# -- fetching ------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The bytes of a file as the release has it: other numbers, the same names and shapes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("release") / "unet-e012d006.pt"
    torch.save(HubUNet(3, 1, 32).eval().state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def entry(web, weights):
    """The catalogue's entry, its release being on this computer."""
    digest = hashlib.sha256(weights).hexdigest()
    return replace(
        catalogue.CATALOGUE["brain-mri"],
        url=web.url("/unet-e012d006.pt"),
        sha256_start=digest[:8],
        local=True,
    )


def test_it_is_fetched_from_the_release_and_made_a_model(web, entry, weights):
    web.pages["/unet-e012d006.pt"] = web.page(weights)
    imported = fetch_model(entry, limits=QUICK)
    assert imported.entry.name == "brain-mri"
    card = load_model("brain-mri").card
    assert card.preparation.method == "brain-mri"
    assert card.objects.options["keep_largest"] is True
    assert "diagnosis" in card.description
    assert card.licence.startswith("MIT")


@pytest.mark.parametrize("answer", ["other file", "html", "cut"])
def test_F63_F64_F74_what_is_not_the_file_leaves_no_model(answer, web, entry, weights, home):
    pages = {
        "other file": web.page(weights[:-9] + b"123456789"),
        "html": web.page(b"<!doctype html><html>log in</html>"),
        "cut": web.page(weights, cut_at=len(weights) // 2, cuts=99),
    }
    web.pages["/unet-e012d006.pt"] = pages[answer]
    with pytest.raises(DownloadError) as caught:
        fetch_model(entry, limits=QUICK)
    assert "unet-studio models" in str(caught.value) or "Try again" in str(caught.value)
    assert not list(home.rglob("*.safetensors"))


def test_the_catalogue_and_the_importer_mean_the_same_file():
    entry = catalogue.CATALOGUE["brain-mri"]
    assert (entry.url, entry.sha256_start) == (brain_mri.URL, brain_mri.SHA256_PREFIX)
    assert entry.url.endswith("/v1.0/unet-e012d006.pt")


def test_F75_a_file_by_hand_needs_no_network(tmp_path, weights):
    path = tmp_path / "mine.pt"
    path.write_bytes(weights)
    imported = import_model(path, importer="brain-mri")
    assert load_model(imported.entry.name).card.architecture == "hub-unet"
    path.write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="truncated or damaged"):
        import_model(path, name="half", importer="brain-mri")


def test_choices_are_heeded_not_ignored(reference):
    """Though the card of the released weights says all that is needed."""
    path = reference / "substitute_state_dict.pt"
    imported = import_model(path, importer="brain-mri", options={"licence": "CC0-1.0"})
    assert imported.entry.card.licence == "CC0-1.0"
    with pytest.raises(ModelError, match="Was licence="):
        import_model(path, name="x", importer="brain-mri", options={"license": "CC0-1.0"})
