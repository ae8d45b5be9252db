"""P01 with another stride and reach along Z: thin stacks are not padded as wide planes are."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from unet_studio.errors import ModelError
from unet_studio.images.volume import as_volume
from unet_studio.inference import executor
from unet_studio.inference.plan import resolve
from unet_studio.inference.tiling import plan_tiles
from unet_studio.models.card import ModelCard
from unet_studio.models.model import Model, load_model, save_model
from unet_studio.models.networks.unet import UNet
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict
from unet_studio.recipe import Recipe

TOLERANCE = 1e-5  # of the logits' standard deviation
POOLINGS = {
    "planes": [[1, 2, 2], [1, 2, 2]],
    "thick": [[1, 2, 2], [2, 2, 2]],
    "thin": [[2, 2, 2], [2, 1, 1]],
}


@pytest.fixture(scope="module")
def models():
    """Small 3D U-Nets whose poolings differ between axes."""
    return {name: anisotropic(poolings) for name, poolings in POOLINGS.items()}


def anisotropic(poolings, **fields):
    options = {"widths": [2, 4, 4], "poolings": poolings}
    return new_model("unet-tiny", ndim=3, options=options, **fields)


def logits(image, model, tile, **more):
    options = {"axes": "ZYX", "keep": "logits", "precision": "float32", **more}
    return predict(image, model, tiling={"tile": tile}, **options)


def test_stride_and_halo_are_measured_per_axis(models):
    assert models["planes"].card.stride == (1, 4, 4)
    assert models["thick"].card.stride == (2, 4, 4)
    assert models["thin"].card.stride == (4, 2, 2)
    thick = models["thick"].card
    assert thick.tile_invariant
    assert thick.halo[0] < thick.halo[1] == thick.halo[2]
    # Ten convolutions of 3 pixels see 10 planes far, if nothing is pooled along Z.
    assert models["planes"].card.halo[0] == 10


def test_the_same_poolings_along_all_axes_give_plain_numbers():
    plain, same = UNet(1, 1, (2, 4, 4), 3), UNet(1, 1, (2, 4, 4), 3, [[2, 2, 2], [2, 2, 2]])
    assert same.stride == plain.stride == 4
    assert list(same.state_dict()) == list(plain.state_dict())


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(POOLINGS)),
    depth=st.integers(1, 30),
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    tile=st.sampled_from([56, 64]),
)
def test_tiles_equal_whole(models, name, depth, height, width, tile):
    image = np.random.default_rng(depth * height).random((depth, height, width))
    image[0, 0, 0] = 2
    whole = logits(image, models[name], 512).probabilities
    tiled = logits(image, models[name], tile).probabilities
    scale = max(float(whole.std()), 1e-6)
    assert np.abs(tiled - whole).max() <= TOLERANCE * scale


@pytest.mark.parametrize("flips", [False, True])
def test_tiles_equal_whole_with_many_tiles(models, flips):
    image = np.random.default_rng(1).random((58, 60, 20))
    model = models["thick"]
    whole, tiled = (logits(image, model, tile, flips=flips) for tile in (512, 56))
    assert whole.record["tiles"]["count"] == 1
    assert tiled.record["tiles"]["count"] >= 4
    assert tuple(tiled.record["tiles"]["halo"]) == model.card.halo
    assert tiled.record["tiles"]["exact"] is True
    difference = np.abs(tiled.probabilities - whole.probabilities).max()
    assert difference <= TOLERANCE * whole.probabilities.std()


def test_with_the_halo_of_z_along_all_axes_seams_show(models):
    """Proves that the tests above could fail."""
    image = np.random.default_rng(1).random((20, 66, 71))
    model = models["thick"]
    whole = logits(image, model, 512).probabilities
    options = {"axes": "ZYX", "keep": "logits", "precision": "float32"}
    seamed = predict(image, model, tiling={"tile": 40, "halo": 4}, **options)
    assert np.abs(seamed.probabilities - whole).max() > 1e-3 * whole.std()
    assert any("halo of 4 px is less than" in text for text in seamed.warnings)


def test_a_thin_axis_gets_its_own_halo(models):
    """Along Z no tile reads more than the stack and its padding to the stride."""
    card = models["thick"].card
    info = as_volume(np.zeros((40, 3000, 3000), np.uint8), "ZYX").info
    plan = resolve(Recipe(model="-"), card, info)
    assert plan.tile_shape[0] == 40
    assert plan.tiles.halos == card.halos


def test_pieces_for_want_of_memory_use_each_axis_stride(models, monkeypatch):
    model = models["thick"]
    image = np.random.default_rng(2).random((18, 45, 200))
    limits = [18 * 48 * 140, 10**9]

    class Small(nn.Module):
        stride = model.network.stride

        def forward(self, x):
            if x[0, 0].numel() > limits[-1]:
                raise RuntimeError("not enough memory: you tried to allocate")
            assert all(n % s == 0 for n, s in zip(x.shape[2:], self.stride, strict=True))
            return model.network(x)

    monkeypatch.setattr(executor, "prepare", lambda *_: Small())
    whole = logits(image, model, 512).probabilities
    limits.pop()
    pieces = logits(image, model, 512)
    assert any("smaller" in text for text in pieces.warnings)
    difference = np.abs(pieces.probabilities - whole).max()
    assert difference <= TOLERANCE * whole.std()


def test_blended_tiles_have_the_patch_of_each_axis(models):
    card = models["thick"].card.model_copy(
        update={"tile_invariant": False, "halo": None, "patch": (6, 32, 24)}
    )
    info = as_volume(np.zeros((20, 90, 90), np.uint8), "ZYX").info
    plan = resolve(Recipe(model="-"), card, info)
    assert plan.tile_shape == (6, 32, 24)
    image = np.random.default_rng(0).random(info.shape)
    result = logits(image, Model(card, models["thick"].network), None)
    assert result.record["tiles"]["blended"] is True
    assert np.isfinite(result.probabilities).all()


def test_tiles_lie_on_the_stride_of_their_axis():
    plan = plan_tiles((37, 200, 150), (12, 64, 48), (3, 9, 5), (2, 8, 4))
    assert plan.halos == (4, 16, 8)
    for tile in plan.tiles():
        for span, stride in zip(tile.spans, (2, 8, 4), strict=True):
            assert span.start % stride == (span.stop - span.start) % stride == 0
    count = np.zeros(plan.shape, int)
    for tile in plan.tiles():
        count[tile.write] += 1
    assert (count == 1).all()


def test_a_model_with_a_tuple_is_saved_and_loaded(models, tmp_path):
    card = models["thick"].card.model_copy(update={"patch": (16, 128, 128)})
    save_model(Model(card, models["thick"].network), tmp_path / "thick.safetensors")
    loaded = load_model(tmp_path / "thick.safetensors")
    assert loaded.card == card
    image = torch.rand(1, 1, 4, 8, 8)
    torch.testing.assert_close(loaded.network(image), models["thick"].network(image))


def test_the_bundled_model_still_holds_plain_numbers():
    card = load_model("nuclei").card
    assert (card.stride, card.halo, card.patch) == (16, 96, 192)
    assert card.strides == (16, 16)


@pytest.mark.parametrize(
    "fields", [{"patch": (16, 64)}, {"stride": (1, 2)}, {"halo": (4, -1, 4)}, {"patch": 8}]
)
def test_numbers_that_do_not_fit_the_axes_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        ModelCard(
            name="t", architecture="unet", in_channels=1, ndim=3, representation="binary", **fields
        )


@pytest.mark.parametrize("poolings", [[[2, 2, 2]], [[2, 2], [2, 2]], [[0, 2, 2], [2, 2, 2]]])
def test_poolings_that_do_not_fit_are_refused(poolings):
    with pytest.raises(ModelError, match="poolings"):
        anisotropic(poolings)
