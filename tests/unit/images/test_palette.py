"""Images whose pixels are numbers of colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_studio.images.palette import numbers_of
from unet_studio.images.readers import read_image

RNG = np.random.default_rng(3)
NUMBERS = RNG.integers(0, 256, (40, 48), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (256, 3), dtype=np.uint8)


def save(path: Path, numbers: np.ndarray, colours: np.ndarray = COLOURS, **options) -> Path:
    colormap = colours.T.astype(np.uint16) * 257
    tifffile.imwrite(path, numbers, photometric="palette", colormap=colormap, **options)
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_palette_tiff_is_read_in_its_colours(compression: str | None, tmp_path: Path) -> None:
    volume = read_image(save(tmp_path / "a.tif", NUMBERS, compression=compression))
    assert (volume.axes.names, volume.rgb, volume.info.shape) == ("YXC", True, (40, 48, 3))
    expected = np.moveaxis(COLOURS[NUMBERS], -1, 0)
    np.testing.assert_array_equal(volume.read(), expected)
    part = volume.read({"Y": slice(3, 9), "X": slice(40, 48)}, (2, 0))
    np.testing.assert_array_equal(part, expected[[2, 0], 3:9, 40:48])
    np.testing.assert_array_equal(np.asarray(volume.array), COLOURS[NUMBERS])
    np.testing.assert_array_equal(numbers_of(volume).read()[0], NUMBERS)


@pytest.mark.parametrize("axes", ["ZYX", "ZYXC", None])
def test_a_stack_with_a_palette(axes: str | None, tmp_path: Path) -> None:
    stack = np.stack([NUMBERS, NUMBERS[::-1]])
    path = save(tmp_path / "a.tif", stack, metadata={"axes": "ZYX"})
    volume = read_image(path, axes)
    assert (volume.axes.names, volume.rgb) == ("ZYXC", True)
    np.testing.assert_array_equal(volume.read({"Z": 1})[1], COLOURS[stack[1], 1])


def test_a_palette_of_greys_leaves_a_grey_image(tmp_path: Path) -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    volume = read_image(save(tmp_path / "a.tif", NUMBERS, greys))
    assert (volume.axes.names, volume.rgb) == ("YX", False)
    np.testing.assert_array_equal(volume.read()[0], NUMBERS)


def test_the_numbers_of_a_palette_png_are_kept(tmp_path: Path) -> None:
    image = Image.fromarray(NUMBERS).convert("P")
    image.putpalette(COLOURS.ravel().tolist())
    image.save(tmp_path / "a.png")
    volume = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.read(), np.moveaxis(COLOURS[NUMBERS], -1, 0))
    np.testing.assert_array_equal(numbers_of(volume).read()[0], NUMBERS)


def test_an_image_without_a_palette_is_its_own_numbers(tmp_path: Path) -> None:
    Image.fromarray(NUMBERS).save(tmp_path / "a.png")
    volume = read_image(tmp_path / "a.png")
    assert numbers_of(volume) is volume
