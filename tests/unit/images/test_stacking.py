"""Several images as the channels of one."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from unet_studio import segment, stack_channels
from unet_studio.axes import Axes
from unet_studio.errors import ImageError
from unet_studio.images.volume import Volume
from unet_studio.models.presets import new_model

AXES = Axes("ZYX", (2.0, 0.5, 0.5), (0.0, 10.0, 20.0), ("micrometer",) * 3)


def volume(seed, name, axes=AXES, shape=(4, 20, 24), dtype=np.uint16, make=np.asarray):
    array = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    return Volume(make(array), axes, name, f"{name}.tif")


@pytest.mark.parametrize("make", [np.asarray, da.from_array, zarr.array])
def test_channels_come_in_the_order_given_and_are_read_lazily(make):
    parts = [volume(seed, name, make=make) for seed, name in enumerate(["t1", "flair", "t1ce"])]
    stacked = stack_channels(parts)
    assert stacked.axes.names == "CZYX"
    assert stacked.axes.scale == (1.0, 2.0, 0.5, 0.5)
    assert stacked.axes.translate[1:] == (0.0, 10.0, 20.0)
    assert stacked.channel_names == ("t1", "flair", "t1ce")
    assert stacked.info.channels == 3
    expected = np.stack([np.asarray(part.array) for part in parts])
    np.testing.assert_array_equal(stacked.read(), expected)
    np.testing.assert_array_equal(stacked.read({"Z": 2}, channels=(2, 0)), expected[[2, 0], 2])
    part = stacked.read({"Z": slice(1, 3), "X": slice(5, 9)}, channels=(1,))
    np.testing.assert_array_equal(part, expected[1:2, 1:3, :, 5:9])


def test_the_result_is_that_of_one_image_with_channels():
    model = new_model("unet-tiny", in_channels=2, representation="binary")
    parts = [volume(seed, str(seed)) for seed in range(2)]
    result = segment(stack_channels(parts), model)
    whole = segment(np.stack([p.array for p in parts]), model, axes="CZYX")
    np.testing.assert_array_equal(result.labels, whole.labels)
    assert result.axes.scale == AXES.scale


def test_dtypes_are_widened_and_a_channel_axis_of_one_is_taken_off():
    single = Volume(
        np.full((4, 1, 20, 24), -3, np.int8),
        Axes("ZCYX", (2.0, 1.0, 0.5, 0.5), (0.0, 0.0, 10.0, 20.0),
             ("micrometer", "pixel", "micrometer", "micrometer")),
        "b",
    )  # fmt: skip
    stacked = stack_channels([volume(0, "a"), single])
    assert stacked.info.dtype == np.int32
    assert stacked.read()[1].min() == -3


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            volume(1, "b", shape=(4, 20, 25)),
            r"b\.tif does not lie on a\.tif.*shape of \(4, 20, 25",
        ),
        (volume(1, "b", Axes("ZYX", (2.0, 0.5, 0.6), AXES.translate, AXES.units)), "0.6 micro"),
        (volume(1, "b", Axes("ZYX", AXES.scale, AXES.translate, ("millimeter",) * 3)), "pixels"),
        (volume(1, "b", Axes("ZYX", AXES.scale, (0.0, 10.0, 20.5), AXES.units)), "origin"),
        (volume(1, "b", Axes("TYX", AXES.scale, AXES.translate, AXES.units)), "axes TYX"),
        (volume(1, "b", Axes("CYX")), "has 4 channels of its own"),
    ],
)
def test_images_that_do_not_lie_on_each_other_are_refused(other, words):
    with pytest.raises(ImageError, match=words):
        stack_channels([volume(0, "a"), other])


def test_rounding_of_scales_and_origins_is_no_difference():
    near = Axes("ZYX", (2.0, 0.50001, 0.5), (0.0, 10.001, 20.0), AXES.units)
    assert stack_channels([volume(0, "a"), volume(1, "b", near)]).info.channels == 2


def test_one_image_is_itself_and_none_is_an_error():
    one = volume(0, "a")
    assert stack_channels([one]) is one
    with pytest.raises(ImageError, match="no image"):
        stack_channels([])


@pytest.mark.parametrize("key", [(1,), (1, 2), 1, slice(1, 3), (slice(None), 1), (1, 2, 3, 4), ()])
def test_an_axis_of_one_channel_is_gone_whatever_is_read(key):
    """Whoever reads may leave out the last axes, as of any array."""
    axes = Axes("TZCYX", (1.0, 2.0, 1.0, 0.5, 0.5), (0.0,) * 5, ("second", *("micrometer",) * 4))
    one = volume(0, "a", axes, shape=(3, 4, 1, 6, 7))
    picked = stack_channels([one])
    assert picked.axes.names == "TZYX"
    expected = np.asarray(one.array)[:, :, 0]
    np.testing.assert_array_equal(picked.array[key], expected[key])


def test_a_channel_that_can_not_be_read_is_an_error_that_names_the_files():
    def broken(block):
        raise OSError("disk gone")

    bad = volume(1, "b", make=lambda a: da.from_array(a).map_blocks(broken, dtype=a.dtype))
    with pytest.raises(ImageError, match=r"a\.tif, b\.tif could not be read.*disk gone"):
        stack_channels([volume(0, "a"), bad]).read()
