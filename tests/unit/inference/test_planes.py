"""Three planes: a 2D network looks at a stack along all axes."""

import numpy as np
import pytest
import torch
from torch import nn

from unet_studio.axes import Axes
from unet_studio.errors import Cancelled, RecipeError
from unet_studio.events import CancelToken, TileDone
from unet_studio.images.volume import Volume, as_volume
from unet_studio.inference import planes as planes_module
from unet_studio.inference.plan import resolve
from unet_studio.inference.planes import resample
from unet_studio.models.model import Model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict, segment
from unet_studio.recipe import Recipe
from unet_studio.streaming import segment_to_zarr

FIXED = {"method": "fixed", "options": {"mean": (0.4,), "std": (0.3,)}}
OPTIONS = {"axes": "ZYX", "precision": "float32", "normalisation": FIXED}


@pytest.fixture(scope="module")
def model():
    return new_model("unet-tiny", representation="objects", seed=3)


@pytest.fixture(scope="module")
def symmetric(model):
    """The network with kernels that look the same from all sides: it does not know up or left."""
    changed = new_model("unet-tiny", representation="objects", seed=3)
    with torch.no_grad():
        for module in changed.network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                kernel = module.weight
                turned = [
                    torch.rot90(k, n, (2, 3)) for k in (kernel, kernel.flip(3)) for n in range(4)
                ]
                module.weight.copy_(sum(turned) / 8)
    return changed


def volume(*shape):
    rng = np.random.default_rng(sum(shape))
    return rng.random(shape).astype(np.float32)


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("tile", [None, 208])
def test_a_turned_volume_gives_the_turned_probabilities(symmetric, axes, tile):
    """The edge is whole strides long: else the padding would lie on another side."""
    image = volume(32, 32, 32) if tile is None else volume(224, 16, 16)
    turned_image = np.ascontiguousarray(np.rot90(image, 1, axes))
    options = {**OPTIONS, "planes": "three", "tiling": {"tile": tile}}
    as_is = predict(image, symmetric, **options).probabilities.astype(np.float32)
    turned = predict(turned_image, symmetric, **options).probabilities.astype(np.float32)
    back = np.rot90(turned, -1, tuple(a + 1 for a in axes))
    assert np.abs(back - as_is).max() <= 2e-3  # three roundings to float16
    assert as_is.std() > 1e-2


def test_with_one_plane_a_turned_volume_gives_something_else(symmetric):
    """Proves that the test above could fail."""
    image = volume(32, 32, 32)
    turned_image = np.ascontiguousarray(np.rot90(image, 1, (0, 1)))
    as_is, turned = (predict(i, symmetric, **OPTIONS).probabilities for i in (image, turned_image))
    back = np.rot90(turned, -1, (1, 2)).astype(np.float32)
    assert np.abs(back - as_is).max() > 2e-2


def test_it_is_the_mean_over_the_planes_of_the_network_itself(model):
    """The reference knows nothing of slabs, roles and turning."""
    image = volume(16, 32, 48)
    options = {**OPTIONS, "keep": "logits"}
    ours = predict(image, model, planes="three", **options).probabilities

    def along(axis):
        stack = np.moveaxis(image, axis, 0)  # the other two axes keep their order
        scaled = (stack[:, None] - 0.4) / 0.3
        with torch.inference_mode():
            logits = model.network(torch.from_numpy(scaled.astype(np.float32))).numpy()
        return np.moveaxis(logits, 0, axis + 1)

    expected = np.mean([along(axis) for axis in range(3)], axis=0)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * expected.std())


def test_frames_slabs_and_channels(model, monkeypatch):
    movie = np.stack([volume(16, 20, 32), 2 * volume(16, 20, 32)])
    options = {**OPTIONS, "axes": "TZYX", "planes": "three"}
    whole = predict(movie, model, **options)
    monkeypatch.setattr(planes_module, "_SLAB_BYTES", 120_000)
    plan = resolve(Recipe(model="-", planes="three"), model.card, as_volume(movie, "TZYX").info)
    assert 1 < plan.views[0].slab < 20
    slabs = predict(movie, model, **options)
    np.testing.assert_array_equal(whole.probabilities, slabs.probabilities)
    alone = predict(movie[1], model, **{**options, "axes": "ZYX"})
    np.testing.assert_array_equal(slabs.probabilities[1], alone.probabilities)
    swapped = predict(
        np.stack([np.zeros_like(movie), movie], 2), model, **{**options, "axes": "TZCYX"},
        channels=(1,),
    )  # fmt: skip
    np.testing.assert_array_equal(swapped.probabilities, slabs.probabilities)


@pytest.mark.parametrize("scale", [(2.0, 1.0, 1.0), (0.5, 1.0, 1.0), (3.0, 1.5, 1.0)])
def test_planes_along_z_have_square_pixels_before_the_network(scale):
    """A network that measures how far along Z a structure reaches."""
    seen = []

    class Watch(nn.Module):
        stride = 1

        def forward(self, x):
            seen.append(tuple(x.shape[2:]))
            return x

    card = new_model("unet-tiny").card.model_copy(update={"stride": 1, "halo": 0})
    image = np.zeros((12, 18, 24), np.float32)
    image[3:9, 6:12, 8:16] = 1
    axes = Axes("ZYX", scale, (), ("micrometer",) * 3)
    result = predict(
        Volume(image, axes), Model(card, Watch()), planes="three", precision="float32",
        keep="logits", normalisation={"method": "fixed", "options": {}},
    )  # fmt: skip
    by_x, by_y = round(12 * scale[0] / scale[2]), round(12 * scale[0] / scale[1])
    assert {(18, 24), (by_x, 24), (by_y, 18)} <= set(seen)
    assert result.probabilities.shape == (1, 12, 18, 24)
    assert result.record["planes"] == {
        "names": ["XY", "XZ", "YZ"], "resampled_depth": [by_x, by_y],
    }  # fmt: skip
    # There and back again a block is a block, but for its blurred faces.
    inside = result.probabilities[0, 5:7, 8:10, 10:14]
    outside = result.probabilities[0, :1]
    np.testing.assert_allclose(inside, 1, atol=1e-5)
    np.testing.assert_allclose(outside, 0, atol=1e-5)
    assert not any("cubes" in text for text in result.warnings)


def test_an_unknown_voxel_size_is_said(model):
    result = predict(volume(8, 16, 16), model, planes="three", **OPTIONS)
    assert any("taken for cubes, as its voxel size is not known" in t for t in result.warnings)


def test_progress_counts_the_tiles_of_all_planes(model):
    events = []
    image = volume(16, 20, 32)
    result = predict(image, model, planes="three", on_event=events.append, **OPTIONS)
    done = [e for e in events if isinstance(e, TileDone)]
    assert [e.done for e in done] == list(range(1, 16 + 20 + 32 + 1))
    assert {e.total for e in done} == {16 + 20 + 32}
    assert result.record["tiles"]["count"] == 16 + 20 + 32
    plan = resolve(Recipe(model="-", planes="three"), model.card, as_volume(image, "ZYX").info)
    assert "along three planes" in plan.summary()
    one = resolve(Recipe(model="-"), model.card, as_volume(image, "ZYX").info)
    assert plan.memory_bytes >= one.memory_bytes


def test_cancel_while_the_other_planes_are_at_work(model):
    token, seen = CancelToken(), []

    def watch(event):
        if isinstance(event, TileDone):
            seen.append(event.done)
            if event.done == 25:  # the first 16 are XY
                token.cancel()

    with pytest.raises(Cancelled):
        predict(volume(16, 20, 32), model, planes="three", token=token, on_event=watch, **OPTIONS)
    assert max(seen) == 25


def test_through_the_disk_the_labels_are_the_same(tmp_path):
    model = new_model("unet-tiny", representation="binary", seed=3)
    image = volume(16, 40, 48)
    options = {**OPTIONS, "planes": "three", "objects": {"method": "components"}}
    held = segment(image, model, **options)
    streamed = segment_to_zarr(image, tmp_path / "labels.ome.zarr", model, **options)
    np.testing.assert_array_equal(streamed.labels[:], held.labels)
    assert streamed.record["recipe"]["planes"] == "three"
    one = segment(image, model, **{**options, "planes": "xy"})
    assert (one.labels != held.labels).any()


def test_pixels_without_a_number_stay_background(model):
    image = volume(16, 20, 32)
    image[4:6, 5:10, 8:20] = np.nan
    result = predict(image, model, planes="three", **OPTIONS)
    assert not result.probabilities[:, 4:6, 5:10, 8:20].any()
    assert any("120 pixels" in text for text in result.warnings)


def test_a_3d_network_is_refused_and_a_flat_image_is_not(model):
    info = as_volume(np.zeros((40, 40), np.uint8)).info
    plan = resolve(Recipe(model="-", planes="three"), model.card, info)
    assert not plan.views
    assert any("no depth axis" in text for text in plan.warnings)
    solid = model.card.model_copy(update={"ndim": 3})
    stack = as_volume(np.zeros((40, 40, 40), np.uint8), "ZYX").info
    with pytest.raises(RecipeError, match="choose a 2D model"):
        resolve(Recipe(model="-", planes="three"), solid, stack)


def test_voxels_that_are_needles_are_refused(model):
    info = Volume(np.zeros((9, 40, 40), np.uint8), Axes("ZYX", (50.0, 1.0, 1.0))).info
    with pytest.raises(RecipeError, match="50 times as long along Z"):
        resolve(Recipe(model="-", planes="three"), model.card, info)


@pytest.mark.parametrize(("n", "length"), [(5, 5), (5, 17), (17, 5), (1, 4), (4, 1)])
def test_resampling_keeps_a_ramp_where_it_is(n, length):
    ramp = (np.arange(n, dtype=np.float32) + 0.5) / n
    found = resample(ramp[None], 1, length)[0]
    expected = np.interp((np.arange(length) + 0.5) / length, ramp, ramp)
    np.testing.assert_allclose(found, expected, atol=1e-6)
