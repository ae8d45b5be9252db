"""Intensities of objects, against scipy's, whatever the blocks, axes and channels."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from scipy import ndimage

from unet_studio.axes import Axes
from unet_studio.errors import Cancelled
from unet_studio.events import CancelToken
from unet_studio.images.volume import Volume
from unet_studio.objects import intensities
from unet_studio.objects.intensities import add_intensities
from unet_studio.objects.measurements import measure

CHANCE = np.random.default_rng(4)


def labelled(shape):
    """Squares with ids that have gaps, each over several blocks."""
    labels = np.zeros(shape, np.uint32)
    labels[..., 2:30, 3:20], labels[..., 12:40, 25:60], labels[..., 33:38, 5:9] = 3, 70_000, 12
    return labels


@pytest.fixture(params=[4_000_000, 100], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(intensities, "_BLOCK", request.param)


def expected(image, labels, ids):
    inside = [image[labels == i].astype(float) for i in ids]
    return {
        "mean": [v.mean() for v in inside], "std": [v.std() for v in inside],
        "min": [v.min() for v in inside], "max": [v.max() for v in inside],
    }  # fmt: skip


@pytest.mark.parametrize("stored", [False, True], ids=["numpy", "zarr"])
def test_one_channel(blocks, stored, tmp_path):
    labels = labelled((42, 64))
    image = CHANCE.integers(30_000, 65_000, labels.shape).astype(np.uint16)
    axes = Axes("YX", (0.5, 0.5))
    table = measure(labels, axes)
    given = labels
    if stored:
        given = zarr.create_array(tmp_path / "l", shape=labels.shape, chunks=(9, 17), dtype="u4")
        given[:] = labels
    found = add_intensities(table, given, axes, Volume(image, axes))
    assert list(found)[: len(table)] == list(table)
    ids = [3, 12, 70_000]
    assert found["label"].tolist() == ids
    for name, values in expected(image, labels, ids).items():
        np.testing.assert_allclose(found[f"intensity_{name}"], values, rtol=1e-12)
    np.testing.assert_allclose(found["intensity_mean"], ndimage.mean(image, labels, ids))


def test_a_movie_of_stacks_with_channels_in_another_order(blocks):
    labels = labelled((2, 3, 42, 64))  # TZYX
    labels[1][labels[1] == 12] = 0
    image = CHANCE.normal(1e6, 1, (42, 64, 2, 3, 2)).astype(np.float32)  # YXCZT
    axes = Axes("XYZT")
    turned = labels.transpose(3, 2, 1, 0)
    found = add_intensities(measure(turned, axes), turned, axes, Volume(image, Axes("YXCZT")))
    assert found["label"].tolist() == [3, 12, 70_000, 3, 70_000]
    rows = list(zip(found["frame"].tolist(), found["label"].tolist(), strict=True))
    for channel in (0, 1):
        plain = image[:, :, channel].transpose(3, 2, 0, 1)  # TZYX
        for row, (frame, label) in enumerate(rows):
            for name, values in expected(plain[frame], labels[frame], [label]).items():
                value = found[f"intensity_{name}_{channel}"][row]
                # The variance of large numbers: a sum of squares would have lost it.
                np.testing.assert_allclose(value, values[0], rtol=1e-6)


def test_colours_without_alpha():
    labels = labelled((42, 64))
    image = CHANCE.integers(0, 255, (42, 64, 4)).astype(np.uint8)
    axes = Axes("YX")
    found = add_intensities(
        measure(labels, axes), labels, axes, Volume(image, Axes("YXC"), rgb=True)
    )
    assert [n for n in found if n.startswith("intensity_mean")] == [
        f"intensity_mean_{c}" for c in range(3)
    ]


def test_nothing_and_not_a_number():
    axes = Axes("YX")
    empty = np.zeros((8, 8), np.uint16)
    found = add_intensities(measure(empty, axes), empty, axes, Volume(empty, axes))
    assert len(found["intensity_mean"]) == 0
    labels = np.array([[1, 1], [2, 2]], np.uint16)
    image = np.array([[np.nan, 1], [2, 4]], np.float32)
    found = add_intensities(measure(labels, axes), labels, axes, Volume(image, axes))
    assert np.isnan(found["intensity_mean"][0])
    assert found["intensity_mean"][1] == 3


def test_it_can_be_stopped():
    token = CancelToken()
    token.cancel()
    labels, axes = labelled((42, 64)), Axes("YX")
    with pytest.raises(Cancelled):
        add_intensities(
            measure(labels, axes), labels, axes, Volume(labels, axes),
            check=token.raise_if_cancelled,
        )  # fmt: skip
