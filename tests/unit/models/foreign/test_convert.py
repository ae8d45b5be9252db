"""Weights of others become models that run, are saved, and say what was assumed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unet_studio.errors import ModelError, RecipeError
from unet_studio.models.foreign import open_weights, recognises
from unet_studio.models.foreign.convert import convert_weights, parse_normalisation
from unet_studio.models.model import load_model, save_model
from unet_studio.models.networks.milesial_unet import MilesialUNet
from unet_studio.pipeline import predict, segment
from unet_studio.recipe import Normalisation


@pytest.fixture
def milesial(tmp_path):
    """A small network of that layout, and its weights as its training script saves them."""
    torch.manual_seed(1)
    network = MilesialUNet(3, 2, (4, 8, 8), bilinear=True).eval()
    path = tmp_path / "checkpoint_epoch5.pth"
    torch.save({**network.state_dict(), "mask_values": [0, 1]}, path)
    return network, path


def test_the_network_computes_what_it_computed_where_it_came_from(milesial):
    network, path = milesial
    model = convert_weights(path)
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    found = predict(image, model, keep="logits", precision="float32").probabilities
    with torch.inference_mode():
        expected = network(torch.from_numpy(image / np.float32(255)).permute(2, 0, 1)[None])[0]
    assert np.abs(found - expected.numpy()).max() < 1e-5
    assert model.card.tile_invariant is False  # corners aligned: measured, not believed


def test_a_conversion_is_saved_as_a_model_of_ours(milesial, tmp_path):
    _, path = milesial
    model = convert_weights(path, name="cars", classes=("road", "car"), licence="CC0")
    save_model(model, tmp_path / "cars.safetensors")
    again = load_model(tmp_path / "cars.safetensors")
    assert again.card == model.card
    assert (again.card.name, again.card.classes, again.card.licence) == (
        "cars",
        ("road", "car"),
        "CC0",
    )
    torch.testing.assert_close(again.network.state_dict(), model.network.state_dict())
    assert open_weights(tmp_path / "cars.safetensors").card == model.card
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(segment(image, again).labels, segment(image, model).labels)


def test_what_weights_do_not_tell_is_assumed_and_noted(milesial):
    _, path = milesial
    notes = " ".join(convert_weights(path).card.notes)
    assert "divided by 255" in notes
    assert "red, green and blue" in notes
    assert "2 classes, the first background" in notes
    given = convert_weights(
        path, normalisation="zscore", representation="classes", classes=("a", "b"), colour=False
    )
    assert given.card.normalisation == Normalisation(method="zscore")
    assert given.card.colour is False
    assert "scaled" not in " ".join(given.card.notes)
    assert "outputs" not in " ".join(given.card.notes)


def test_a_weight_file_is_a_source_of_a_model(milesial):
    network, path = milesial
    model = load_model(f"weights:{path}")
    assert torch.equal(model.network.outc.conv.weight, network.outc.conv.weight)


def test_an_architecture_can_be_given_with_its_options(tmp_path):
    from unet_studio.models.networks.unet import UNet

    path = tmp_path / "w.pt"
    torch.save(UNet(2, 1, (4, 8)).state_dict(), path)
    model = convert_weights(path, architecture="unet", options={"widths": [4, 8]}, in_channels=2)
    assert model.card.options == {"widths": [4, 8]}
    with pytest.raises(ModelError, match=r"'hub-unet'.*do not fit|do not fit.*'hub-unet'"):
        convert_weights(path, architecture="hub-unet")
    with pytest.raises(ModelError, match="no architecture 'unett'. Known: unet,"):
        convert_weights(path, architecture="unett")
    with pytest.raises(ModelError, match="representation"):
        convert_weights(path, representation="pixels")


def test_a_normalisation_as_it_is_typed():
    assert parse_normalisation("zscore") == Normalisation(method="zscore")
    assert parse_normalisation("percentile:low=1;high=99").options == {"low": 1.0, "high": 99.0}
    assert parse_normalisation("fixed:mean=0;std=255").options == {"mean": [0.0], "std": [255.0]}
    assert parse_normalisation("fixed:mean=1,2,3;std=4,5,6").options["std"] == [4.0, 5.0, 6.0]
    for wrong in ("fixed:mean", "fixed:mean=a", "fixed:std=0", "sideways", "zscore:low=1"):
        with pytest.raises(RecipeError):
            parse_normalisation(wrong)


def test_which_files_are_looked_at(tmp_path):
    for name in ("a.pt", "a.PTH", "a.ckpt", "a.bin", "a.safetensors", "a.txt", "a.onnx"):
        (tmp_path / name).touch()
    found = {p.name for p in tmp_path.iterdir() if recognises(p)}
    assert found == {"a.pt", "a.PTH", "a.ckpt", "a.bin", "a.safetensors"}
    assert not recognises(tmp_path)
