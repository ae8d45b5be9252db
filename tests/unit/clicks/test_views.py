"""What is read of an image, and where things are on the network's crop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unet_studio.clicks.prompts import Patch
from unet_studio.clicks.views import PlaneReader, View, reflected, seen, unseen, view_around
from unet_studio.images.volume import as_volume


class Watched:
    """An array that notes what is read of it."""

    def __init__(self, array):
        self.array, self.read = array, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key):
        found = self.array[key]
        self.read.append(found.shape)
        return found


def reader(array, axes="YX", channels=(0,), **place):
    return PlaneReader({1: as_volume(array, axes)}, place, channels)


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_outside_the_image_it_is_mirrored(length):
    values = np.arange(length)
    expected = np.pad(values, 25, mode="reflect")
    np.testing.assert_array_equal(values[reflected(-25, length + 25, length)], expected)


@pytest.mark.parametrize(
    "view", [View(-5, 30, 16, 16), View(3, 4, 16, 16), View(-40, -40, 99, 99)]
)
def test_a_crop_at_natural_scale_is_the_image(view):
    image = np.random.default_rng(0).integers(0, 255, (40, 35)).astype(np.uint8)
    padded = np.pad(image, 200, mode="reflect")
    top, left = view.top + 200, view.left + 200
    expected = padded[top : top + view.size, left : left + view.size]
    np.testing.assert_array_equal(reader(image).crop(view)[0], expected)


@pytest.mark.parametrize("size", [20, 40, 64, 160, 333])
def test_a_point_lies_on_the_crop_where_the_image_shows_it(size):
    """The centre of mass of a bright square, and of the same square as seen and unseen."""
    image = np.zeros((600, 600), np.float32)
    image[300:307, 310:317] = 1
    view = view_around((301, 309), size, 64)
    crop = reader(image).crop(view)[0]
    y, x = np.mgrid[:64, :64]
    mass = [(g * crop).sum() / crop.sum() for g in (y, x)]
    np.testing.assert_allclose(view.to_working([(303, 313)])[0], mass, atol=0.05)
    mask = seen(Patch(300, 310, np.ones((7, 7), bool)), view)
    np.testing.assert_allclose(mask, crop, atol=1e-5)
    if size > 160:
        return  # the square is one pixel of the crop: too few to be drawn again
    back = unseen(crop, view)
    inside = image[view.top : view.top + view.size, view.left : view.left + view.size]
    assert ((back > 0.5) != (inside > 0)).sum() <= 8


def test_only_the_surroundings_are_read_and_once_per_answer():
    array = Watched(np.zeros((5, 4000, 3, 4000), np.uint8))
    eye = reader(array, "ZYCX", (0, 1, 2), Z=2)
    with eye.keeping():
        eye.prefetch([view_around((50, 70), s, 64) for s in (32, 64, 128)])
        for size in (32, 64, 128):
            assert eye.crop(view_around((50, 70), size, 64)).shape == (3, 64, 64)
    assert len(array.read) == 1
    assert np.prod(array.read[0]) <= 3 * 128**2
    eye.crop(view_around((50, 70), 64, 64))
    assert len(array.read) == 2  # nothing is kept from one answer to the next


def test_large_objects_are_read_from_coarser_levels():
    fine = np.random.default_rng(0).random((1024, 1024)).astype(np.float32)
    fine[300:700, 200:800] += 2
    halves = fine.reshape(512, 2, 512, 2).mean((1, 3))
    quarters = halves.reshape(256, 2, 256, 2).mean((1, 3))
    arrays = {1: fine, 2: halves, 4: quarters}
    levels = {step: as_volume(a, "YX") for step, a in arrays.items()}
    for size, step in [(50, 1), (130, 2), (300, 4), (900, 4)]:
        view = view_around((500.5, 471.2), size, 64, (1, 2, 4))
        assert view.step == step
        assert view.top % step == view.left % step == view.size % step == 0
        assert abs(view.size - size) <= step
        crop = PlaneReader(levels, {}, (0,)).crop(view)
        single = PlaneReader({1: levels[1]}, {}, (0,)).crop(replace(view, step=1))
        assert np.abs(crop - single).mean() < 0.1


def test_the_place_and_size_of_a_view_are_bounded():
    assert view_around((10, 10), 1, 64).size == 16
    assert view_around((10, 10), 10**7, 64).size == 4096
    assert view_around((10, 10), 10**7, 64, (1, 4)).size == 4 * 4096
