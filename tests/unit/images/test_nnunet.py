"""Preparation after nnU-Net: values worked out by hand, and the way back onto the frame."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.axes import Axes
from unet_studio.errors import AxesError, ImageError
from unet_studio.images.nnunet import ChannelScheme, NnunetPreparer, normalise
from unet_studio.images.resampling import resample, resampled_shape, separate_axis

MM = Axes("ZYX", (3.0, 1.0, 1.0), units=("millimeter",) * 3)


def preparer(**changes):
    values = {"spacing": (3.0, 1.0, 1.0), "patch": (4, 8, 8), "channels": ({},)}
    return NnunetPreparer(**(values | changes))


def image(*shape, seed=0):
    return np.random.default_rng(seed).normal(5, 2, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("spacing", "target", "expected"),
    [
        ((1, 1, 1), (1, 1, 1), None),
        ((5, 1, 1), (1, 1, 1), 0),  # what is there is judged first
        ((1, 1, 1), (1, 4, 1), 1),  # then what is wanted
        ((3, 1, 1), (3, 1, 1), None),  # more than three times, not three times
        ((5, 5, 1), (1, 1, 1), None),  # two coarse axes: none is apart
    ],
)
def test_the_axis_whose_slices_stay_apart(spacing, target, expected):
    assert separate_axis(spacing, target) == expected
    assert separate_axis(spacing, target, separate=False) is None


def test_the_shape_at_another_voxel_size_is_rounded_and_never_nothing():
    assert resampled_shape((10, 100, 3), (2.0, 1.0, 0.1), (1.0, 1.5, 1.0)) == (20, 67, 1)


def test_slices_apart_are_repeated_and_not_mixed():
    stack = np.stack([np.full((4, 4), v, np.float32) for v in (1, 5, 9)])[None]
    found = resample(stack, (6, 8, 8), 0, order=3)
    assert found.shape == (1, 6, 8, 8)
    np.testing.assert_allclose(found[0, :, 3, 3], [1, 1, 5, 5, 9, 9], atol=1e-6)
    mixed = resample(stack, (6, 8, 8), None, order=1)
    assert not set(np.round(mixed[0, :, 3, 3], 3)) <= {1.0, 5.0, 9.0}


def test_normalisation():
    values = np.array([[[0, 2, 4, 6]]], np.float32)
    inside = values > 0

    def done(**scheme):
        channel = values.copy()
        normalise(channel, ChannelScheme(**scheme), inside)
        return channel.ravel()

    np.testing.assert_allclose(done(), (values.ravel() - 3) / np.sqrt(5), atol=1e-6)
    masked = done(masked=True)
    np.testing.assert_allclose(masked[1:], (np.array([2, 4, 6]) - 4) / np.sqrt(8 / 3), atol=1e-6)
    assert masked[0] == 0
    np.testing.assert_allclose(
        done(scheme="ct", low=1, high=5, mean=2, std=2), [-0.5, 0, 1, 1.5], atol=1e-6
    )
    np.testing.assert_allclose(done(scheme="rescale"), [0, 1 / 3, 2 / 3, 1], atol=1e-6)
    np.testing.assert_allclose(done(scheme="rgb"), values.ravel() / 255, atol=1e-6)
    np.testing.assert_array_equal(done(scheme="none"), values.ravel())
    with pytest.raises(ImageError, match="0 to 255.*Convert it to 8 bit"):
        normalise(values - 1, ChannelScheme(scheme="rgb"), inside)


def test_an_image_of_one_value_stays_finite():
    channel = np.full((2, 3, 3), 7, np.float32)
    normalise(channel, ChannelScheme(), channel > 0)
    assert np.isfinite(channel).all()


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_crop_padding_and_turn_are_undone_exactly(transpose):
    frame = np.zeros((1, 5, 13, 11), np.float32)
    frame[:, 1:4, 2:12, 3:9] = image(1, 3, 10, 6)
    size = np.array(MM.scale)
    plan = preparer(
        spacing=tuple(size[list(transpose)]), transpose=transpose, channels=({"scheme": "none"},)
    )
    prepared = plan.prepare(frame, MM)
    assert all(n >= p for n, p in zip(prepared.image.shape[1:], plan.patch, strict=True))
    logits = np.concatenate([-prepared.image, prepared.image])
    back = prepared.restore(logits)
    assert back.shape == (2, 5, 13, 11)
    inside = np.s_[1:4, 2:12, 3:9]
    np.testing.assert_array_equal(back[1][inside], frame[0][inside])
    outside = np.ones(frame.shape[1:], bool)
    outside[inside] = False
    assert (back[0] > back[1] + 20)[outside].all()  # background for certain


def test_the_forecast_is_what_the_network_sees():
    plan = preparer(spacing=(2.0, 0.7, 1.3))
    frame = image(1, 7, 20, 30)
    assert plan.prepare(frame, MM).image.shape[1:] == plan.shape((7, 20, 30), MM)


def test_a_plane_alone_is_one_of_a_stack():
    plan = preparer(spacing=(0.5, 0.5), patch=(8, 8))
    axes = Axes("YX", (1.0, 1.0), units=("millimeter",) * 2)
    prepared = plan.prepare(image(1, 12, 10), axes)
    assert prepared.image.shape == (1, 24, 20)
    assert prepared.restore(np.repeat(prepared.image, 2, 0)).shape == (2, 12, 10)


def test_pictures_have_no_pixel_size():
    plan = preparer(spacing=(1.0, 1.0), patch=(8, 8), pixel_sizes="none")
    axes = Axes("YX", (0.3, 0.3), units=("micrometer",) * 2)
    prepared = plan.prepare(image(1, 12, 10), axes)
    assert prepared.image.shape == (1, 12, 10)
    assert prepared.warnings == ()


def test_sizes_that_can_not_be_right_are_refused():
    with pytest.raises(AxesError, match=r"as many. Correct the pixel size"):
        preparer().shape((5, 10, 10), Axes("ZYX", (3.0, 0.01, 0.001), units=("millimeter",) * 3))
    with pytest.raises(AxesError, match="not positive"):
        preparer().shape((5, 10, 10), Axes("ZYX", (0.0, 1.0, 1.0), units=("millimeter",) * 3))


def test_another_number_of_channels_is_refused():
    with pytest.raises(ImageError, match="has 2 channels, the model normalises 1"):
        preparer().prepare(image(2, 5, 10, 10), MM)


def test_the_image_is_not_written_to():
    frame = image(1, 5, 10, 10)
    frame.setflags(write=False)
    preparer(spacing=(2.0, 1.0, 1.0)).prepare(frame, MM)
