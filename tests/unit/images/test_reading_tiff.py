"""TIFF files of every kind, as a user would open them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet_studio.axes import AmbiguousAxes
from unet_studio.errors import AxesError, ImageError
from unet_studio.images.readers import read_image

RNG = np.random.default_rng(1)


def test_real_ome_tiff_has_its_axes_and_voxel_size(shared_data: Path) -> None:
    path = shared_data / "ovule_nuclei_3d" / "images" / "1135_mini.tif"
    volume = read_image(path)
    assert volume.axes.names == "ZYX"
    assert volume.axes.scale == pytest.approx(
        (0.28371836501901143, 0.1267864206672, 0.1267864206672)
    )
    assert volume.axes.units == ("micrometer",) * 3
    assert volume.metadata["family"] == "ome-tiff"
    np.testing.assert_array_equal(volume.read()[0], tifffile.imread(path))
    np.testing.assert_array_equal(
        volume.read({"Z": slice(10, 12), "Y": slice(5, 9)})[0], tifffile.imread(path)[10:12, 5:9]
    )


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_tiff_is_read_in_parts(
    stack: np.ndarray, compression: str | None, tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, compression=compression, tile=tile, metadata={"axes": "ZYX"})
    volume = read_image(path)
    assert not isinstance(volume.array, np.ndarray) or isinstance(volume.array, np.memmap)
    part = volume.read({"Z": slice(1, 3), "Y": slice(7, 33), "X": slice(20, 50)})
    np.testing.assert_array_equal(part[0], stack[1:3, 7:33, 20:50])


@pytest.mark.parametrize(("unit", "expected"), [("µm", "micrometer"), ("nm", "nanometer")])
def test_ome_tiff_metadata(stack: np.ndarray, unit: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    data = stack.reshape(2, 2, 40, 50)
    fields = {
        "axes": "TCYX",
        "PhysicalSizeX": 0.1,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": 0.2,
        "PhysicalSizeYUnit": unit,
        "TimeIncrement": 3.0,
        "TimeIncrementUnit": "s",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(path, data, metadata=fields)
    volume = read_image(path)
    assert volume.axes.names == "TCYX"
    assert volume.axes.scale == (3.0, 1.0, 0.2, 0.1)
    assert volume.axes.units == ("second", "pixel", expected, expected)
    assert volume.channel_names == ("DAPI", "GFP")


def test_imagej_tiff_metadata(stack: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    data = stack.reshape(2, 2, 40, 50)
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "ZCYX", "spacing": 0.7, "unit": "um"},
    )
    volume = read_image(path)
    assert volume.axes.names == "ZCYX"
    assert volume.axes.scale == pytest.approx((0.7, 1.0, 0.5, 0.25))
    assert volume.axes.units == ("micrometer", "pixel", "micrometer", "micrometer")


def test_plain_stack_asks_what_its_first_axis_is(stack: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, stack, metadata=None, photometric="minisblack")
    with pytest.raises(AmbiguousAxes, match=r"plain\.tif.*--axes ZYX.*axes='ZYX'") as caught:
        read_image(path)
    assert caught.value.candidates[:2] == ("ZYX", "TYX")
    assert "YXC" not in caught.value.candidates  # the file does say which are Y and X
    np.testing.assert_array_equal(read_image(path, "TYX").read()[:, 0], stack)


def test_given_axes_must_fit(stack: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, stack, metadata=None, photometric="minisblack")
    with pytest.raises(AxesError, match=r"plain\.tif has 3 dimensions"):
        read_image(path, "YX")


@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_tiff(samples: int, planar: str, tmp_path: Path) -> None:
    path = tmp_path / "rgb.tif"
    image = RNG.integers(0, 255, (40, 50, samples), dtype=np.uint8)
    stored = image if planar == "contig" else np.moveaxis(image, -1, 0)
    extra = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, **extra)
    volume = read_image(path)
    assert (volume.rgb, volume.info.channels) == (True, 3)  # alpha does not count
    np.testing.assert_array_equal(volume.read(), np.moveaxis(image, -1, 0)[:3])
    assert read_image(path, volume.axes.names).rgb


def test_one_bit_tiff(tmp_path: Path) -> None:
    path = tmp_path / "bits.tif"
    image = RNG.integers(0, 2, (33, 41)).astype(bool)
    tifffile.imwrite(path, image, photometric="minisblack")
    np.testing.assert_array_equal(read_image(path).read()[0], image)


def test_pyramid_level_has_its_own_scale(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.ome.tif"
    image = RNG.integers(0, 255, (256, 512), dtype=np.uint8)
    with tifffile.TiffWriter(path) as writer:
        fields = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
        writer.write(image, subifds=1, tile=(64, 64), metadata=fields)
        writer.write(image[::2, ::2], subfiletype=1, tile=(64, 64))
    volume = read_image(path, level=1)
    assert volume.axes.scale == (0.5, 1.0)
    np.testing.assert_array_equal(volume.read()[0], image[::2, ::2])
    with pytest.raises(ImageError, match=r"pyramid\.ome\.tif has 2 resolution"):
        read_image(path, level=2)
    with pytest.raises(ImageError, match="no series 5"):
        read_image(path, series=5)
