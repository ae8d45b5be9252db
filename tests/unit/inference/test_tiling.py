"""Tile plans: every pixel once, on the stride, with context on inner sides only."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_studio.errors import RecipeError
from unet_studio.inference.tiling import plan_axis, plan_axis_blended, plan_patches, plan_tiles

STRIDES = st.sampled_from([1, 2, 8, 16, 32])


@given(
    length=st.integers(1, 3000),
    stride=STRIDES,
    halo_strides=st.integers(0, 5),
    core_strides=st.integers(1, 12),
)
def test_axis_is_covered_once_with_full_context(length, stride, halo_strides, core_strides):
    halo = halo_strides * stride
    tile = 2 * halo + core_strides * stride
    spans = plan_axis(length, tile, halo, stride)
    padded = -(-length // stride) * stride

    kept = [p for s in spans for p in range(s.keep_start, s.keep_stop)]
    assert kept == list(range(length))
    assert len({s.stop - s.start for s in spans}) == 1, "tiles of one shape"
    for span in spans:
        assert span.start % stride == 0
        assert (span.stop - span.start) % stride == 0
        assert span.stop - span.start <= max(tile, stride)
        assert span.keep_start < span.keep_stop
        assert span.start == 0 or span.keep_start - span.start >= halo
        assert span.stop == padded or span.stop - span.keep_stop >= halo


@given(length=st.integers(1, 2000), stride=STRIDES, tile_strides=st.integers(2, 12))
def test_blended_axis_covers_everything_and_overlaps(length, stride, tile_strides):
    tile = tile_strides * stride
    overlap = tile // 2
    spans = plan_axis_blended(length, tile, overlap, stride)
    covered = np.zeros(length, int)
    for span in spans:
        assert span.start % stride == 0
        covered[span.keep_start : span.keep_stop] += 1
    assert covered.min() >= 1
    for left, right in itertools.pairwise(spans):
        assert left.stop - right.start >= min(overlap, stride)


@given(
    shape=st.lists(st.integers(1, 90), min_size=2, max_size=3),
    stride=st.sampled_from([4, 8]),
    halo_strides=st.integers(0, 2),
)
def test_tiles_reassemble_an_image_exactly(shape, stride, halo_strides):
    image = np.random.default_rng(0).integers(0, 2**31, shape)
    halo = halo_strides * stride
    plan = plan_tiles(shape, 2 * halo + 2 * stride, halo, stride)
    output = np.full(shape, -1)
    for tile in plan.tiles():
        block = image[tile.read]
        output[tile.write] = block[tile.local]
    np.testing.assert_array_equal(output, image)
    assert plan.count == len(plan.tiles())


def test_a_tile_smaller_than_its_halos_is_refused_with_a_usable_size():
    with pytest.raises(RecipeError, match=r"192 pixels leaves nothing.*at least 208"):
        plan_tiles((1000, 1000), 192, 96, 16)


def test_no_more_tiles_than_needed_and_no_larger_than_needed():
    plan = plan_tiles((1040, 1388), 1024, 96, 16)
    assert plan.count == 4
    # Two tiles along 1040 need not be 1024 long.
    assert plan.tile_shape == (624, 800)


@pytest.mark.parametrize(
    ("length", "patch", "starts"),
    [
        (60, 24, [0, 12, 24, 36]),
        (61, 24, [0, 9, 18, 28, 37]),
        (24, 24, [0]),
        (10, 24, [0]),
        (110, 64, [0, 23, 46]),
    ],
)
def test_patches_start_where_nnunet_starts_them(length, patch, starts):
    """From ``compute_steps_for_sliding_window`` with half a patch of overlap."""
    plan = plan_patches((length,), (patch,), 0.5)
    assert [span.start for span in plan.axes[0]] == starts
    assert plan.tile_shape == (patch,)
    assert plan.blend
