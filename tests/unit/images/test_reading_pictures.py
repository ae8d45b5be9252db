"""PNG and JPEG files, as a user would open them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_studio.images.readers import read_image

RNG = np.random.default_rng(1)


def test_real_nuclei_png_and_histology_rgb(shared_data: Path) -> None:
    grey = next((shared_data / "dsb2018_fluo" / "val" / "images").glob("*.png"))
    colour = next((shared_data / "dsb2018_histology" / "val" / "images").glob("*.png"))
    mask = next((shared_data / "dsb2018_histology" / "val" / "masks").glob("*.png"))
    volume = read_image(grey)
    assert (volume.axes.names, volume.rgb, volume.info.channels) == ("YX", False, 1)
    np.testing.assert_array_equal(volume.read()[0], np.array(Image.open(grey)))
    volume = read_image(colour)
    assert (volume.axes.names, volume.rgb, volume.info.channels) == ("YXC", True, 3)
    np.testing.assert_array_equal(volume.read(), np.moveaxis(np.array(Image.open(colour)), -1, 0))
    assert read_image(mask).info.dtype == np.uint16


@pytest.mark.parametrize(
    ("mode", "shape", "names", "rgb"),
    [
        ("L", (40, 50), "YX", False),
        ("1", (40, 50), "YX", False),
        ("LA", (40, 50), "YX", False),
        ("P", (40, 50, 3), "YXC", True),
        ("RGB", (40, 50, 3), "YXC", True),
        ("RGBA", (40, 50, 4), "YXC", True),
    ],
)
def test_picture_modes(
    mode: str, shape: tuple[int, ...], names: str, rgb: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    colours = RNG.integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(colours).convert(mode).save(path)
    volume = read_image(path)
    assert (volume.info.shape, volume.axes.names, volume.rgb) == (shape, names, rgb)
    pixels = np.asarray(volume.array[...])
    assert pixels.shape == shape
    assert pixels.max() > 200  # not 0 and 1
    if mode == "RGB":
        np.testing.assert_array_equal(pixels, colours)


def test_sixteen_bit_pictures_are_not_cut_to_eight(tmp_path: Path) -> None:
    import imagecodecs

    grey = RNG.integers(0, 65_535, (40, 50), dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png").read()[0], grey)
    for samples in (2, 3, 4):
        colour = RNG.integers(0, 65_535, (40, 50, samples), dtype=np.uint16)
        path = tmp_path / f"colour{samples}.png"
        path.write_bytes(imagecodecs.png_encode(colour))
        volume = read_image(path)
        assert volume.info.dtype == np.uint16
        assert volume.rgb == (samples > 2)
        expected = colour[..., 0] if samples == 2 else colour
        np.testing.assert_array_equal(np.asarray(volume.array[...]), expected)


def test_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.JPG"
    Image.fromarray(np.full((40, 50, 3), (200, 30, 90), np.uint8)).save(path, quality=95)
    volume = read_image(path)
    assert volume.rgb
    np.testing.assert_allclose(volume.read()[:, 20, 20].astype(float), [200, 30, 90], atol=3)
