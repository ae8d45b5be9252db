"""P01, P02: tiles give what the whole image gives, for whatever size, tile and channels."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from unet_studio.events import drain
from unet_studio.images.volume import as_volume
from unet_studio.inference.plan import resolve
from unet_studio.inference.predictor import predict_steps
from unet_studio.models.model import Model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict
from unet_studio.recipe import Recipe, Tiling

TOLERANCE = 1e-5  # of the logits' standard deviation


@pytest.fixture(scope="module")
def models():
    """Small plain U-Nets of one to three channels, batch statistics not trivial."""
    made = {}
    for channels in (1, 2, 3):
        model = new_model(
            "unet-tiny", in_channels=channels, representation="objects", seed=channels
        )
        for module in model.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                generator = torch.Generator().manual_seed(7)
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
        made[channels] = model
    return made


def logits(image, model, **tiling):
    options = {"tiling": tiling, "precision": "float32"}
    return predict(image, model, axes="CYX", keep="logits", **options).probabilities


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    height=st.integers(1, 420),
    width=st.integers(1, 420),
    channels=st.integers(1, 3),
    tile=st.sampled_from([208, 224, 256, 304]),
    batch=st.integers(1, 5),
)
def test_P01_P02_tiles_equal_whole(models, height, width, channels, tile, batch):
    rng = np.random.default_rng(height * 1000 + width)
    image = rng.integers(0, 5000, (channels, height, width)).astype(np.uint16)
    image[:, 0, 0] = 6000  # never constant, not even at 1 x 1 pixels and up
    whole = logits(image, models[channels], tile=4096)
    tiled = logits(image, models[channels], tile=tile, batch=batch)
    scale = max(float(whole.std()), 1e-6)
    assert np.abs(tiled - whole).max() <= TOLERANCE * scale


def test_whole_is_the_network_itself(models):
    """The reference of the other tests is not our own tiling code."""
    rng = np.random.default_rng(1)
    image = rng.random((1, 64, 96)).astype(np.float32)
    model = models[1]
    fixed = {"method": "fixed", "options": {"mean": (0.0,), "std": (1.0,)}}
    ours = predict(
        image, model, axes="CYX", keep="logits", normalisation=fixed, precision="float32"
    )
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(image[None]))[0].numpy()
    np.testing.assert_allclose(ours.probabilities, expected, atol=1e-5 * expected.std())


def test_P01_three_dimensions():
    model = new_model("unet-tiny", ndim=3, representation="binary", options={"widths": (2, 4, 8)})
    volume = as_volume(np.random.default_rng(0).random((19, 70, 131)), "ZYX")

    def run(tile):
        recipe = Recipe(model="-", tiling=Tiling(tile=tile), precision="float32")
        plan = resolve(recipe, model.card, volume.info)
        return drain(predict_steps(volume, model, plan, keep="logits"))

    whole, tiled = run(512), run(2 * model.card.halo + 16)
    assert tiled.record["tiles"]["count"] > 4
    difference = np.abs(tiled.probabilities - whole.probabilities).max()
    assert difference <= TOLERANCE * whole.probabilities.std()


def test_less_halo_than_the_network_sees_is_visible_and_said(models):
    """Proves that the tests above could fail."""
    rng = np.random.default_rng(3)
    image = rng.integers(0, 5000, (1, 400, 400)).astype(np.uint16)
    whole = logits(image, models[1], tile=4096)
    tiling = {"tile": 208, "halo": 16}
    seamed = predict(
        image, models[1], axes="CYX", keep="logits", tiling=tiling, precision="float32"
    )
    assert np.abs(seamed.probabilities - whole).max() > 1e-3 * whole.std()
    assert any("seams" in warning for warning in seamed.warnings)
    assert seamed.record["tiles"]["exact"] is False


def test_P05_blending_weights_sum_to_one():
    """P05: a network that returns its input gives the image back, whatever the overlap."""

    class Identity(nn.Module):
        stride = 8

        def forward(self, x):
            return 2 * x + 1

    card = new_model("unet-tiny").card.model_copy(
        update={"tile_invariant": False, "halo": None, "stride": 8, "patch": 64}
    )
    image = np.random.default_rng(0).random((150, 231)).astype(np.float32)
    fixed = {"method": "fixed", "options": {}}
    options = {"normalisation": fixed, "precision": "float32"}
    result = predict(image, Model(card, Identity()), keep="logits", **options)
    assert result.record["tiles"]["blended"]
    assert result.record["tiles"]["count"] > 6
    np.testing.assert_allclose(result.probabilities[0], 2 * image + 1, rtol=1e-5)


def test_pixels_without_a_number_are_counted_once_and_are_background():
    card = new_model("unet-tiny").card.model_copy(
        update={"tile_invariant": False, "halo": None, "patch": 64}
    )
    model = Model(card, new_model("unet-tiny").network)
    image = np.random.default_rng(0).random((150, 231)).astype(np.float32)
    image[20:130, 100:150] = np.nan
    result = predict(image, model, precision="float32")
    assert result.record["tiles"]["blended"]
    assert any("5,500 pixels" in text for text in result.warnings)
    assert not result.probabilities[:, 20:130, 100:150].any()
    logits = predict(image, model, precision="float32", keep="logits").probabilities
    assert (logits[:, 20:130, 100:150] < -20).all()


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_hole_in_any_of_red_green_and_blue_counts(models, channel):
    image = np.random.default_rng(0).random((60, 70, 3)).astype(np.float32)
    image[10:20, 30:40, channel] = np.nan
    result = predict(as_volume(image, "YXC", rgb=True), models[1])
    assert any("100 pixels" in text for text in result.warnings)
    assert not result.probabilities[:, 10:20, 30:40].any()


def test_stacks_are_predicted_plane_by_plane(models):
    rng = np.random.default_rng(5)
    movie = rng.integers(0, 900, (2, 3, 40, 50)).astype(np.uint16)
    fixed = {"method": "fixed", "options": {"mean": (400.0,), "std": (300.0,)}}
    stack = predict(movie, models[1], axes="TZYX", normalisation=fixed).probabilities
    assert stack.shape == (2, 3, 3, 40, 50)  # T C Z Y X
    plane = predict(movie[1, 2], models[1], normalisation=fixed).probabilities
    np.testing.assert_array_equal(stack[1, :, 2], plane)


@pytest.mark.parametrize("axis", [0, 1])
def test_with_flips_a_mirrored_image_gives_the_mirrored_result(models, axis):
    """The shape is whole strides long: else the padding would lie on another side."""
    image = np.random.default_rng(2).random((96, 128)).astype(np.float32)
    options = {"keep": "logits", "precision": "float32"}
    results = {
        flips: [
            predict(np.ascontiguousarray(i), models[1], flips=flips, **options).probabilities
            for i in (image, np.flip(image, axis))
        ]
        for flips in (True, False)
    }
    as_is, mirrored = results[True]
    deviation = as_is.std()
    assert np.abs(np.flip(mirrored, axis + 1) - as_is).max() <= TOLERANCE * deviation
    as_is, mirrored = results[False]
    assert np.abs(np.flip(mirrored, axis + 1) - as_is).max() > 1e-2 * deviation


def test_with_flips_tiles_give_what_the_whole_gives(models):
    image = np.random.default_rng(4).random((1, 300, 420)).astype(np.float32)
    halo = models[1].card.halo
    whole = logits(image, models[1], tile=1024)
    tile = 2 * halo + 4 * models[1].card.stride
    options = {"axes": "CYX", "keep": "logits", "precision": "float32", "flips": True}
    one = predict(image, models[1], tiling={"tile": 1024}, **options)
    many = predict(image, models[1], tiling={"tile": tile}, **options)
    assert many.record["tiles"]["count"] > 4 > one.record["tiles"]["count"] == 1
    difference = np.abs(one.probabilities - many.probabilities).max()
    assert difference <= TOLERANCE * one.probabilities.std()
    assert np.abs(one.probabilities - whole).max() > 1e-2 * whole.std(), "flips do something"
    assert one.record["recipe"]["flips"] is True


def test_flips_in_three_dimensions():
    model = new_model("unet-tiny", ndim=3, options={"widths": (4, 8)})
    edge = 8 * model.card.stride
    image = np.random.default_rng(6).random((edge, edge, edge)).astype(np.float32)
    options = {"axes": "ZYX", "keep": "logits", "precision": "float32", "flips": True}
    as_is, turned = (
        predict(np.ascontiguousarray(i), model, **options).probabilities
        for i in (image, image[::-1, ::-1])
    )
    assert np.abs(turned[:, ::-1, ::-1] - as_is).max() <= TOLERANCE * as_is.std()
