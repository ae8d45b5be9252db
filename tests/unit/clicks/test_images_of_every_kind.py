"""A click gives the same object whatever the image is stored in."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from support.overlap import iou
from unet_studio import ClickSession
from unet_studio.errors import AxesError


def truth_of(image, axes, blobs, position, **options):
    return ClickSession(image, blobs, axes=axes, **options).click(position)


def test_P24_every_order_of_axes_gives_the_same_object(blobs, three_disks):
    image, _ = three_disks
    stack = np.zeros((4, *image.shape), np.uint8)
    stack[2] = image
    expected = truth_of(image, "YX", blobs, (140, 90))
    variants = [
        (stack, "ZYX", (2.3, 140, 90), lambda m: m),
        (stack.transpose(1, 2, 0), "YXZ", (140, 90, 2), lambda m: m),
        (stack.transpose(2, 0, 1), "XZY", (90, 1.6, 140), lambda m: m.T),
        (stack[None], "TZYX", (0, 2, 140, 90), lambda m: m),
        (np.stack([image] * 3, -1), "YXC", (140, 90), lambda m: m),
        (np.stack([stack * 0, stack], 1), "ZCYX", (2, 140, 90), lambda m: m),
    ]
    for array, axes, position, turned in variants:
        options = {"channels": (1,)} if axes == "ZCYX" else {}
        found = truth_of(array, axes, blobs, position, **options)
        np.testing.assert_array_equal(turned(found.mask), expected.mask, err_msg=axes)
        labels = np.zeros([n for n, a in zip(array.shape, axes, strict=True) if a != "C"])
        assert labels[found.region].shape == found.mask.shape


def test_P24_dask_zarr_and_numpy_give_the_same(blobs, three_disks, tmp_path):
    image, _ = three_disks
    stored = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=image.shape, dtype="u1", chunks=(64, 64)
    )
    stored[:] = image
    expected = ClickSession(image, blobs).click((140, 90))
    for array in (da.from_array(image, chunks=50), stored):
        np.testing.assert_array_equal(
            ClickSession(array, blobs).click((140, 90)).mask, expected.mask
        )


def test_an_ome_zarr_is_opened_with_all_its_levels(blobs, tmp_path):
    import yaozarrs  # noqa: F401

    from unet_studio.axes import Axes
    from unet_studio.images.writers import write_labels

    labels = np.zeros((2100, 2200), np.uint16)
    labels[600:1500, 500:1600] = 200
    path = write_labels(labels, Axes("YX"), tmp_path / "big.ome.zarr")
    session = ClickSession(path, blobs)
    assert sorted(session.canvas.levels) == [1, 2, 4]
    found = session.click((1000, 1000))
    assert iou(found, labels > 0) > 0.97
    assert found.looks[-1].step > 1


def test_levels_of_another_shape_are_not_used(blobs):
    image = np.zeros((10, 200, 200), np.uint8)
    thinned, halves = np.zeros((5, 100, 100), np.uint8), np.zeros((10, 100, 100), np.uint8)
    session = ClickSession(image, blobs, axes="ZYX", levels=[thinned, halves])
    assert session.canvas.levels[2].array is halves
    assert len(session.canvas.levels) == 2


def test_nan_and_16_bit_and_float_images(blobs, three_disks):
    image, labels = three_disks
    for array in (
        image.astype(np.uint16) * 200,
        image.astype(np.float32) / 255 - 3,
        np.where(np.arange(240) > 200, np.nan, image.astype(np.float64)),
        ~image,
    ):
        found = ClickSession(array, blobs).click((140, 90))
        assert found.area > 0
    assert iou(ClickSession(image * 1.0, blobs).click((140, 90)), labels == 3) > 0.9


def test_an_image_of_one_pixel_can_be_clicked(blobs):
    assert ClickSession(np.zeros((1, 1), np.uint8), blobs).click((0, 0)).area == 1


def test_channels_that_are_not_there_are_refused(blobs, three_disks):
    for channels in ((1,), (), (0, 0, 0, 0)):
        with pytest.raises(AxesError, match="choose one to three"):
            ClickSession(three_disks[0], blobs, channels=channels)
