"""Every order of axes in, the same order out: the table that ilastik tests itself against.

The pairs of data and axis order are those of ilastik's test of axis order
preservation: 25 of pixel classification, and the canonical order.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from unet_studio.axes import Axes, rearrange
from unet_studio.images.readers import read_image
from unet_studio.images.volume import as_volume
from unet_studio.images.writers import write_labels

_BLOCKS = (
    (("2d",), ("xy", "yx")),
    (("2d", "2d3c"), ("cxy", "yxc", "xyc", "ycx")),
    (("3d", "3d1c", "3d2c"), ("xyzc", "czyx")),
    (("5t2d1c", "5t2d2c"), ("tyxc", "txyc", "xytc")),
    (("5t3d2c",), ("tzyxc", "ztxyc", "xyztc", "tczyx")),
)
TABLE = [row for block in _BLOCKS for row in itertools.product(*block)]
LENGTH = {"T": 5, "Z": 4, "Y": 37, "X": 23}
SCALE = {"T": 2.5, "C": 1.0, "Z": 0.8, "Y": 0.25, "X": 0.125}
UNITS = {"T": "second", "C": "pixel", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}


def _axes(names: str) -> Axes:
    return Axes(names, tuple(SCALE[a] for a in names), (), tuple(UNITS[a] for a in names))


def _source(dims: str, names: str) -> np.ndarray:
    lengths = {**LENGTH, "C": int(dims[-2]) if dims.endswith("c") else 1}
    canonical = "".join(a for a in "TCZYX" if a in names)
    shape = [lengths[a] for a in canonical]
    image = np.random.default_rng(3).integers(0, 60_000, shape, dtype=np.uint16)
    return rearrange(image, canonical, names)


def test_the_table_is_whole() -> None:
    assert len(TABLE) == len(set(TABLE)) == 26


@pytest.mark.parametrize(("dims", "order"), TABLE)
@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr", ".nii.gz"])
def test_P10_labels_come_back_in_the_order_of_the_image(
    dims: str, order: str, suffix: str, tmp_path: Path
) -> None:
    names = order.upper()
    image = _source(dims, names)
    volume = as_volume(image, names, scale=_axes(names).scale, units=_axes(names).units)

    read = volume.read()

    canonical = "".join(a for a in "TCZYX" if a in names or a == "C")
    with_channel = image if "C" in names else image[..., None]
    there = names if "C" in names else names + "C"
    # einsum permutes independently of the code under test.
    np.testing.assert_array_equal(
        read, np.einsum(f"{there.lower()}->{canonical.lower()}", with_channel)
    )

    channel = canonical.index("C")
    labels = (read.astype(np.int64).sum(axis=channel) % 1000).astype(np.uint16)
    target_axes = _axes(names).without("C") if "C" in names else _axes(names)
    in_source_order = rearrange(labels, canonical.replace("C", ""), target_axes.names)
    path = write_labels(in_source_order, target_axes, tmp_path / f"labels{suffix}")
    back = read_image(path)

    assert back.axes.names == _kept_order(target_axes.names, suffix)
    stored = np.asarray(back.array[...])
    np.testing.assert_array_equal(
        np.einsum(f"{back.axes.names.lower()}->{target_axes.names.lower()}", stored),
        np.einsum(f"{names.lower()}->{target_axes.names.lower()}", image.astype(np.int64)) % 1000,
    )
    for axis in target_axes.names:
        there_, here = target_axes.index(axis), back.axes.index(axis)
        assert back.axes.scale[here] == pytest.approx(target_axes.scale[there_])
        assert back.axes.units[here] == target_axes.units[there_]


def _kept_order(names: str, suffix: str) -> str:
    """TIFF keeps any order; OME-Zarr and NIfTI prescribe one."""
    order = {".tif": names, ".ome.zarr": "TZYX", ".nii.gz": "XYZT"}[suffix]
    kept = [a for a in order if a in names]
    if suffix == ".nii.gz" and "T" in names and "Z" not in names:
        kept.insert(2, "Z")  # time is the fourth dimension of a NIfTI
    return "".join(kept)
