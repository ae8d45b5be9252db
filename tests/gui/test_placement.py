"""Labels lie exactly on their image, whatever its transform (P09)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image

from unet_studio.gui.layers import labels_layer, take_snapshot

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")

SHAPES = {
    "YX": (12, 14),
    "YXC": (40, 42, 3),
    "ZYX": (5, 12, 14),
    "TYX": (5, 12, 14),
    "TZYX": (3, 4, 12, 14),
    "ZYXC": (5, 40, 42, 4),
    "CZYX": (2, 4, 12, 14),
    "CYX": (3, 12, 14),
    "ZCYX": (4, 3, 12, 14),
    "TCYX": (4, 3, 12, 14),
    "TCZYX": (2, 3, 4, 12, 14),
}


def _random_image(axes, seed, couple_channels=True):
    rng = np.random.default_rng(seed)
    rgb = axes.endswith("C")
    ndim = len(axes) - rgb
    linear = np.eye(ndim) + rng.normal(scale=0.3, size=(ndim, ndim))
    shear = rng.normal(scale=0.2, size=ndim * (ndim - 1) // 2)
    rotate = np.linalg.qr(rng.normal(size=(ndim, ndim)))[0]
    channel = -1 if rgb else axes.find("C")
    if channel >= 0 and not couple_channels:
        shear = np.zeros_like(shear)
        for matrix in (linear, rotate):
            matrix[channel, :] = matrix[:, channel] = 0
            matrix[channel, channel] = 1
        keep = [i for i in range(ndim) if i != channel]
        rotate[np.ix_(keep, keep)] = np.linalg.qr(rng.normal(size=(ndim - 1, ndim - 1)))[0]
    affine = np.eye(ndim + 1)
    affine[:-1, :-1], affine[:-1, -1] = linear, rng.normal(size=ndim) * 10
    return Image(
        rng.integers(0, 255, SHAPES[axes]).astype(np.uint8),
        rgb=rgb,
        scale=rng.uniform(0.2, 3, ndim),
        translate=rng.normal(size=ndim) * 20,
        rotate=rotate,
        shear=shear,
        affine=affine,
        name="cells",
    )


def _assert_on(image, labels, axes, seed, level_factor=1):
    """World coordinates of 20 voxels agree; for channels, at the middle one."""
    rng = np.random.default_rng(seed)
    rgb = axes.endswith("C")
    names = axes[:-1] if rgb else axes
    channel = names.find("C")
    dropped = channel >= 0 and labels.ndim == len(names) - 1
    for _ in range(20):
        index = np.array([rng.integers(0, n) for n in image.data.shape[: len(names)]], float)
        label_index = index.copy()
        if channel >= 0:
            index[channel] = (SHAPES[axes][channel] - 1) / 2
            label_index[channel] = 0
        if dropped:
            label_index = np.delete(label_index, channel)
        expected = np.array(image.data_to_world(tuple(index)))
        got = np.array(labels.data_to_world(tuple(label_index)))
        # napari lines layers up at their last dimensions
        np.testing.assert_allclose(got, expected[-len(got) :], atol=1e-9, rtol=1e-9)


def _labels_for(snapshot):
    axes = snapshot.volume.axes
    names = axes.names.replace("C", "")
    shape = tuple(snapshot.volume.info.length(a) for a in names)
    return labels_layer(np.zeros(shape, np.int32), snapshot.placement, "labels")


@settings(max_examples=60, deadline=None)
@given(axes=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 10_000), couple=st.booleans())
def test_P09_labels_lie_exactly_on_their_image(axes, seed, couple):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # non-orthogonal slicing: what we ask for
        image = _random_image(axes, seed, couple)
        labels = _labels_for(take_snapshot(image, axes))
        _assert_on(image, labels, axes, seed)
        assert labels.units == image.units[-labels.ndim :]


@pytest.mark.parametrize("axes", ["ZCYX", "TCYX"])
def test_an_inner_channel_axis_is_covered_whole(axes):
    """The labels are seen at every channel, and nowhere else."""
    image = Image(np.zeros(SHAPES[axes], np.uint8), rgb=False)
    labels = _labels_for(take_snapshot(image, axes))
    channel = axes.index("C")
    assert labels.data.shape[channel] == 1
    world = [0.0] * 4
    for number in range(SHAPES[axes][channel]):
        world[channel] = number
        assert round(labels.world_to_data(world)[channel]) == 0
    assert labels.editable


def test_every_level_of_a_pyramid_covers_the_same_ground():
    levels = [np.zeros((64 // f, 96 // f), np.uint8) for f in (1, 2, 4)]
    image = Image(levels, multiscale=True, scale=(0.5, 0.25), translate=(3, 4))
    for level, factor in enumerate((1, 2, 4)):
        snapshot = take_snapshot(image, level=level)
        labels = _labels_for(snapshot)
        assert labels.data.shape == levels[level].shape
        np.testing.assert_allclose(labels.scale, np.multiply(image.scale, factor))
        corner = labels.data_to_world((-0.5, -0.5))
        np.testing.assert_allclose(corner, image.data_to_world((-0.5, -0.5)), atol=1e-12)
        assert snapshot.volume.axes.scale == pytest.approx((0.5 * factor, 0.25 * factor))


def test_measured_sizes_follow_an_affine_that_holds_the_voxel_size():
    """NIfTI readers put the voxel size into the affine."""
    image = Image(np.zeros((6, 8), np.uint8), affine=np.diag([2.0, 3.0, 1.0]))
    assert take_snapshot(image).volume.axes.scale == pytest.approx((2, 3))
