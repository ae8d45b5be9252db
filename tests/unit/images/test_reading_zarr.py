"""OME-Zarr images and plain stores, as a user would open them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from unet_studio.axes import AmbiguousAxes, Axes
from unet_studio.errors import ImageError
from unet_studio.images.readers import read_image
from unet_studio.images.writers import write_array

RNG = np.random.default_rng(1)


def _ome_zarr(path: Path, data: np.ndarray, version: str) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    for level, pixels in enumerate((data, data[..., ::2, ::2])):
        group.create_array(str(level), data=pixels, chunks=(1, 1, 2, 32, 32))
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, 1.0, 2.0, 0.5 * 2**level, 0.5 * 2**level]},
                {"type": "translation", "translation": [4.0, 0.0, 10.0, 1.0, 2.0]},
            ],
        }
        for level in (0, 1)
    ]
    space = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    multiscale = {
        "name": "image",
        "axes": [
            {"name": "t", "type": "time", "unit": "second"},
            {"name": "c", "type": "channel"},
            *space,
        ],
        "datasets": datasets,
        "coordinateTransformations": [{"type": "scale", "scale": [5.0, 1.0, 1.0, 1.0, 1.0]}],
    }
    channel = {
        "label": "DAPI",
        "color": "0000FF",
        "active": True,
        "window": {"min": 0, "max": 255, "start": 0, "end": 255},
    }
    omero = {"channels": [channel, {**channel, "label": "GFP"}]}
    if version == "0.4":
        group.attrs.update({"multiscales": [{**multiscale, "version": "0.4"}], "omero": omero})
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [multiscale], "omero": omero}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("level", [0, 1])
def test_ome_zarr(version: str, level: int, tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (2, 2, 4, 64, 48), dtype=np.uint8)
    path = tmp_path / "image.ome.zarr"
    _ome_zarr(path, data, version)
    volume = read_image(path, level=level)
    assert volume.axes.names == "TCZYX"
    assert volume.axes.scale == (5.0, 1.0, 2.0, 0.5 * 2**level, 0.5 * 2**level)
    assert volume.axes.translate == (20.0, 0.0, 10.0, 1.0, 2.0)
    assert volume.axes.units == ("second", "pixel", *("micrometer",) * 3)
    assert volume.channel_names == ("DAPI", "GFP")
    assert (volume.name, volume.metadata["family"]) == ("image", "ome-zarr")
    step = 2**level
    np.testing.assert_array_equal(volume.read(channels=[1])[:, 0], data[:, 1, :, ::step, ::step])


def test_ome_zarr_images_inside_a_collection(tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (2, 2, 4, 64, 48), dtype=np.uint8)
    path = tmp_path / "many.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    _ome_zarr(path / "0", data, "0.5")
    _ome_zarr(path / "1", data[:1], "0.5")
    assert read_image(path, series=1).info.shape == (1, 2, 4, 64, 48)
    assert read_image(path / "1").info.shape == (1, 2, 4, 64, 48)
    with pytest.raises(ImageError, match="no series 7"):
        read_image(path, series=7)


def test_plain_zarr_array_asks_or_knows(tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (4, 64, 48), dtype=np.uint8)
    zarr.create_array(tmp_path / "a.zarr", data=data)
    with pytest.raises(AmbiguousAxes, match=r"a\.zarr"):
        read_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr", "ZYX").read()[0], data)
    zarr.create_array(tmp_path / "b.zarr", data=data, dimension_names=("t", "y", "x"))
    assert read_image(tmp_path / "b.zarr").axes.names == "TYX"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "without an OME-Zarr image"),
        ({"ome": {"version": "0.5", "plate": {}}}, "plate.*A/1/0"),
        ({"ome": {"version": "0.5", "labels": ["nuclei"]}}, "labels.*nuclei"),
        ({"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]}, r"0\.1; versions"),
        ({"ome": {"version": "0.5", "multiscales": [{"axes": []}]}}, "break the specification"),
    ],
)
def test_zarr_groups_that_are_no_image(attributes: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    zarr.open_group(path, mode="w", zarr_format=3).attrs.update(attributes)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_scale_of_a_store_follows_the_letters_that_are_given(
    stack: np.ndarray, tmp_path: Path
) -> None:
    axes = Axes("ZYX", (2.0, 0.5, 0.25), (9.0, 1.0, 2.0), ("micrometer",) * 3)
    path = write_array(stack, axes, tmp_path / "a.ome.zarr")
    movie = read_image(path, axes="TYX").axes
    assert movie.scale == (1.0, 0.5, 0.25)
    assert movie.translate == (0.0, 1.0, 2.0)
    assert movie.units == ("pixel", "micrometer", "micrometer")
    assert read_image(path, axes="XZY").axes.scale == (0.25, 2.0, 0.5)
