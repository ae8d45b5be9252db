"""P05: blended tiles are finished slab by slab, with the sums of a slab in memory alone."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unet_studio.events import TileDone, drain
from unet_studio.images.volume import as_volume
from unet_studio.inference.blending import BlendedSlabs, blend_window
from unet_studio.inference.plan import resolve
from unet_studio.inference.predictor import output_shape, predict_steps
from unet_studio.inference.tiling import plan_tiles
from unet_studio.models.card import ModelCard
from unet_studio.models.model import Model
from unet_studio.pipeline import predict
from unet_studio.recipe import Normalisation, Recipe


class Wave(nn.Module):
    """Not the same in every place of a tile, so that overlapping tiles differ."""

    stride = 4

    def forward(self, x):
        axis = x.new_tensor(np.linspace(0, 1, x.shape[-1]))
        return x * (1 + axis)


def model(ndim, patch):
    card = ModelCard(
        name="wave", architecture="unet", in_channels=1, ndim=ndim, representation="binary",
        patch=patch, stride=4, halo=None, tile_invariant=False, bytes_per_pixel=8,
    )  # fmt: skip
    return Model(card, Wave())


def summed_at_once(plan, values):
    """The mean with the sums of the whole frame in memory, tile after tile."""
    total = np.zeros((values[0].shape[0], *plan.shape), np.float32)
    weights = np.zeros(plan.shape, np.float32)
    window = blend_window(plan.tile_shape)
    for tile, value in zip(plan.tiles(), values, strict=True):
        total[(slice(None), *tile.write)] += value * window[tile.local]
        weights[tile.write] += window[tile.local]
    return total / weights


def test_the_window_is_a_gaussian_of_an_eighth_of_the_edge():
    window = blend_window((16, 64))
    assert window.shape == (16, 64)
    assert window[8, 32] == window.max() == 1
    for at in ((10, 32), (6, 32), (8, 40), (8, 24)):  # one standard deviation away
        assert window[at] == pytest.approx(np.exp(-0.5))
    assert window[12, 48] == pytest.approx(np.exp(-2) ** 2)
    assert window.min() > 0


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 70), min_size=2, max_size=3),
    tile=st.sampled_from([8, 16, 24]),
    frames=st.integers(1, 2),
)
def test_slabs_are_the_whole_frame_to_the_bit(shape, tile, frames):
    plan = plan_tiles(shape, tile, tile // 4, 4, blend=True)
    rng = np.random.default_rng(sum(shape))
    slabs = BlendedSlabs(plan, 2)
    for _ in range(frames):
        values = [
            rng.random((2, *(s.keep_stop - s.keep_start for s in t.spans))).astype(np.float16)
            for t in plan.tiles()
        ]
        found = np.full((2, *shape), np.nan, np.float32)
        for one, value in zip(plan.tiles(), values, strict=True):
            if slab := slabs.add(one, value):
                assert np.isnan(found[(slice(None), *slab.region)]).all(), "written twice"
                found[(slice(None), *slab.region)] = slab.mean
        np.testing.assert_array_equal(found, summed_at_once(plan, values))


@pytest.mark.parametrize("shape", [(150, 231), (231, 150), (40, 70, 33)])
def test_a_run_through_the_disk_gives_the_same_bits(shape, tmp_path):
    image = np.random.default_rng(0).random(shape)
    blended = model(len(shape), 32 if len(shape) == 2 else (16, 32, 16))
    axes = "ZYX"[-len(shape) :]
    held = predict(image, blended, axes=axes, precision="float32")
    assert held.record["tiles"]["blended"] is True
    volume = as_volume(image, axes)
    plan = resolve(Recipe(model="-", precision="float32"), blended.card, volume.info)
    disk = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float16, output_shape(plan))
    streamed = drain(predict_steps(volume, blended, plan, output=disk))
    np.testing.assert_array_equal(streamed.probabilities, held.probabilities)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_memory_does_not_grow_with_the_longest_axis(axis, tmp_path):
    fixed = Normalisation(method="fixed", options={"mean": (9.0,), "std": (9.0,)})
    recipe = Recipe(model="-", precision="float32", normalisation=fixed)

    def peak(length):
        shape = [24, 24, 24]
        shape[axis] = length
        image = np.lib.format.open_memmap(tmp_path / f"{length}.npy", "w+", np.uint8, tuple(shape))
        image[::3] = 200
        volume = as_volume(image, "ZYX")
        plan = resolve(recipe, solid.card, volume.info)
        output = np.lib.format.open_memmap(
            tmp_path / f"{length}-out.npy", "w+", np.float16, output_shape(plan)
        )
        assert plan.tiles.blend
        tracemalloc.start()
        try:
            for event in predict_steps(volume, solid, plan, output=output):
                if isinstance(event, TileDone) and event.done == 1:
                    tracemalloc.reset_peak()  # what intensities were measured on has its own bound
            return tracemalloc.get_traced_memory()[1], plan
        finally:
            tracemalloc.stop()

    solid = model(3, 16)
    peak(64)  # lazily imported code does not count
    (short, _), (long, plan) = peak(240), peak(1600)
    sums = 2 * np.prod(plan.tiles.shape) * 4
    assert long - short < 0.25 * sums
