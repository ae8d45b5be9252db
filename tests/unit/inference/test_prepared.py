"""Models that want the whole image prepared: what they see, and what comes back onto it."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from unet_studio.errors import RecipeError
from unet_studio.events import Warned, drain
from unet_studio.images.preparation import PREPARATIONS, Prepared
from unet_studio.images.volume import as_volume
from unet_studio.inference.plan import resolve
from unet_studio.models.model import Model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict, segment, segment_steps
from unet_studio.recipe import Normalisation, Preparation, Recipe


@dataclass(frozen=True)
class Halved:
    """Every second pixel of a plane; results are repeated."""

    step: int = 2

    def shape(self, shape, axes):
        return (*shape[:-2], *(-(-n // self.step) for n in shape[-2:]))

    def prepare(self, frame, axes):
        def restore(values):
            full = values.repeat(self.step, -1).repeat(self.step, -2)
            return full[..., : frame.shape[-2], : frame.shape[-1]].copy()

        return Prepared(frame[..., :: self.step, :: self.step].copy(), restore)


if "halved" not in PREPARATIONS:
    PREPARATIONS.register("halved", Halved)


class Same(nn.Module):
    """Returns its first channel."""

    stride = 1

    def forward(self, x):
        return x[:, :1]


@pytest.fixture
def model():
    plain = new_model("unet-tiny", in_channels=1)
    card = plain.card.model_copy(
        update={
            "preparation": Preparation(method="halved"),
            "normalisation": Normalisation(method="fixed"),
            "stride": 1,
            "halo": 0,
        }
    )
    return Model(card, Same())


def test_the_network_sees_the_prepared_image_and_the_result_lies_on_the_image(model):
    image = np.arange(7 * 10, dtype=np.float32).reshape(7, 10)
    found = predict(image, model, axes="YX", keep="logits", precision="float32")
    expected = image[::2, ::2].repeat(2, 0).repeat(2, 1)[:7, :10]
    assert found.probabilities.shape == (1, 7, 10)
    assert np.array_equal(found.probabilities[0], expected)
    assert found.record["image"]["shape"] == [7, 10]
    assert found.record["preparation"] == {"method": "halved", "options": {}}


@pytest.mark.parametrize("axes", ["TYX", "ZYX", "TZYX", "ZTYX"])
def test_frames_and_stacks_come_back_in_their_places(model, axes):
    shape = [{"T": 3, "Z": 2, "Y": 6, "X": 8}[a] for a in axes]
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    found = predict(image, model, axes=axes, keep="logits", precision="float32")
    names = found.axes.names.replace("C", "")
    turned = np.transpose(image, [axes.index(a) for a in names])
    expected = turned[..., ::2, ::2].repeat(2, -1).repeat(2, -2)
    channel = found.axes.index("C")
    assert np.array_equal(np.take(found.probabilities, 0, axis=channel), expected)


def test_the_plan_is_that_of_what_the_network_sees(model):
    info = as_volume(np.zeros((600, 1000), np.uint8), "YX").info
    plan = resolve(Recipe(model="x"), model.card, info)
    assert plan.tiles.shape == (300, 500)
    assert plan.output_shape == (600, 1000)
    bare = model.card.model_copy(update={"preparation": None})
    assert resolve(Recipe(model="x"), bare, info).tiles.shape == (600, 1000)


def test_pixels_without_a_number_are_background_and_are_told(model):
    image = np.ones((8, 8), np.float32)
    image[0, 0] = 5
    image[6:, 6:] = np.nan  # at the border: no hole to be filled
    result = segment(image, model, axes="YX")
    assert not result.labels[6:, 6:].any()
    assert result.labels[2, 2] > 0
    assert any("4 pixels" in text and "NaN" in text for text in result.warnings)


def test_a_warning_of_every_frame_is_told_once(model):
    movie = np.zeros((3, 8, 8), np.float32)
    result = segment(movie, model, axes="TYX", normalisation={"method": "zscore"})
    assert len([text for text in result.warnings if "constant" in text]) == 1


def test_what_the_plan_warns_of_is_told_and_kept(model):
    volume = as_volume(np.zeros((8, 8, 3), np.uint8), "YXC", rgb=True)
    mixed = "red, green and blue are mixed"
    plan = resolve(Recipe(model="x"), model.card, volume.info)
    assert [text for text in plan.warnings if mixed in text]
    told = []
    result = drain(segment_steps(volume, Recipe(model="x"), model=model), told.append)
    assert len([e for e in told if isinstance(e, Warned) and mixed in e.message]) == 1
    assert len([text for text in result.warnings if mixed in text]) == 1
    assert len([text for text in result.record["warnings"] if mixed in text]) == 1


def test_an_option_that_does_not_exist_is_refused_before_the_run(model):
    wrong = Preparation(method="halved", options={"speed": 3})
    card = model.card.model_copy(update={"preparation": wrong})
    info = as_volume(np.zeros((8, 8), np.uint8), "YX").info
    with pytest.raises(RecipeError, match="'halved' can not use its options.*speed"):
        resolve(Recipe(model="x"), card, info)


def test_probabilities_of_a_network_are_taken_as_they_are(model):
    values = np.linspace(0.01, 0.99, 64, dtype=np.float32).reshape(8, 8)
    card = model.card.model_copy(update={"preparation": None, "output": "probabilities"})
    as_they_are = replace(model, card=card)
    found = predict(values, as_they_are, axes="YX", precision="float32").probabilities
    assert np.abs(found[0] - values).max() < 1e-3
    logits = predict(
        values, as_they_are, axes="YX", keep="logits", precision="float32"
    ).probabilities
    assert torch.allclose(torch.from_numpy(logits[0]).sigmoid(), torch.from_numpy(values))


def test_the_model_says_whether_mirror_images_are_averaged(model):
    info = as_volume(np.zeros((8, 8), np.uint8), "YX").info
    card = model.card.model_copy(update={"flips": True})
    assert resolve(Recipe(model="x"), card, info).recipe.flips is True
    assert resolve(Recipe(model="x", flips=False), card, info).recipe.flips is False
    assert resolve(Recipe(model="x"), model.card, info).recipe.flips is False
