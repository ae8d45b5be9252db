"""Intensities of any kind come out finite, float32 and independent of tiles."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from unet_studio.errors import ImageError, RecipeError
from unet_studio.images.normalisation import (
    fixed_scaling,
    percentile_scaling,
    pretrained_scaling,
    sample_for_statistics,
    zscore_scaling,
)
from unet_studio.images.normalisers import NORMALISERS, check_normalisation
from unet_studio.recipe import Normalisation

RNG = np.random.default_rng(5)
# What a normaliser can not do without.
NEEDED = {"steps": {"steps": [{"method": "zscore"}, {"method": "linear", "offset": 1.0}]}}


@pytest.fixture
def image() -> np.ndarray:
    return RNG.normal(1000, 100, (2, 64, 80))


@pytest.mark.parametrize("name", NORMALISERS.names())
@pytest.mark.parametrize("value", [0, 7, -3.5])
def test_a_constant_image_becomes_zero(name: str, value: float) -> None:
    flat = np.full((1, 20, 20), value)
    scaling = NORMALISERS.load(name)(sample_for_statistics(flat), **NEEDED.get(name, {}))
    if name == "fixed":  # scales by given numbers, whatever the image holds
        assert (scaling.apply(flat) == np.float32(value)).all()
        return
    assert scaling.constant_channels == (0,)
    assert (scaling.apply(flat) == 0).all()


def test_a_blank_channel_does_not_spoil_the_other(image: np.ndarray) -> None:
    alone = percentile_scaling(sample_for_statistics(image[:1])).apply(image[:1])
    image[1] = 0
    scaling = percentile_scaling(sample_for_statistics(image))
    assert scaling.constant_channels == (1,)
    np.testing.assert_array_equal(scaling.apply(image)[:1], alone)
    assert (scaling.apply(image)[1] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("share", ["pixel", "half"])
def test_bad_pixels_become_zero_and_do_not_move_the_rest(
    bad: float, share: str, image: np.ndarray
) -> None:
    mask = np.zeros(image.shape[1:], bool)
    mask[: 1 if share == "pixel" else 32, : 1 if share == "pixel" else None] = True
    image[:, mask] = bad
    scaled = zscore_scaling(sample_for_statistics(image)).apply(image)
    assert (scaled[:, mask] == 0).all()
    good = image[:, ~mask]
    expected = (good - good.mean(1, keepdims=True)) / good.std(1, keepdims=True)
    np.testing.assert_allclose(scaled[:, ~mask], expected, atol=1e-5)


def test_only_bad_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="no finite pixel"):
        sample_for_statistics(np.full((1, 4, 4), np.nan))


def test_percentiles_map_to_zero_and_one() -> None:
    image = np.arange(100_001, dtype=np.uint32).reshape(1, 1, -1)
    scaled = percentile_scaling(sample_for_statistics(image), 1, 99, clip=None).apply(image)
    assert scaled[0, 0, 1000] == pytest.approx(0, abs=1e-6)
    assert scaled[0, 0, 99_000] == pytest.approx(1, abs=1e-6)
    clipped = percentile_scaling(sample_for_statistics(image), 40, 60, clip=(0, 1)).apply(image)
    assert (clipped.min(), clipped.max()) == (0, 1)


def test_nearly_empty_images_keep_their_contrast() -> None:
    image = np.zeros((1, 200, 200), np.uint16)
    image[0, 3, 4] = 500
    scaling = percentile_scaling(sample_for_statistics(image))
    assert scaling.constant_channels == ()
    assert scaling.apply(image)[0, 3, 4] == 1


def test_colours_keep_their_ratio() -> None:
    image = RNG.random((3, 50, 50)) * np.array([1, 2, 4])[:, None, None]
    scaled = percentile_scaling(sample_for_statistics(image), clip=None, joint=True).apply(image)
    differences = np.ptp(scaled.reshape(3, -1), axis=1) / np.ptp(image.reshape(3, -1), axis=1)
    np.testing.assert_allclose(differences, differences[0], rtol=1e-5)


def test_statistics_are_of_the_volume_and_not_of_the_tile(image: np.ndarray) -> None:
    image[:, :32, :40] = RNG.normal(10, 1, (2, 32, 40))  # a tile of background
    scaling = percentile_scaling(sample_for_statistics(image))
    whole = scaling.apply(image)
    tiles = [[scaling.apply(image[:, y : y + 32, x : x + 40]) for x in (0, 40)] for y in (0, 32)]
    np.testing.assert_array_equal(np.block(tiles), whole)
    assert np.ptp(whole[:, :32, :40]) < 0.05  # not stretched to full contrast


def test_large_images_are_sampled_evenly() -> None:
    """Also when the sampling step and the width of the image have a common factor."""
    width, rows = 2048, 7500
    image = np.empty((1, rows, width), np.uint16)
    image[:] = np.arange(width) % 4  # a pattern of columns, which a step of 4 would miss
    sample = sample_for_statistics(image)
    assert sample.shape[1] <= 4_000_000
    assert set(np.unique(sample)) == {0, 1, 2, 3}
    np.testing.assert_allclose(sample.mean(), 1.5, atol=0.01)


def test_eight_and_sixteen_bit_of_one_image_agree() -> None:
    image = RNG.integers(0, 255, (1, 64, 64), dtype=np.uint8)
    wide = image.astype(np.uint16) * 257
    a = percentile_scaling(sample_for_statistics(image)).apply(image)
    b = percentile_scaling(sample_for_statistics(wide)).apply(wide)
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-300, 1e-38, 1.0, 1e30, 1e300])
def test_any_range_of_floats(factor: float, image: np.ndarray) -> None:
    reference = zscore_scaling(sample_for_statistics(image)).apply(image)
    scaled = (
        zscore_scaling(sample_for_statistics(image / 1000 * factor))
        if factor < 1e150
        else (percentile_scaling(sample_for_statistics(image / 1000 * factor)))
    )
    result = scaled.apply(image / 1000 * factor)
    assert np.isfinite(result).all()
    if 1e-150 < factor < 1e150:
        np.testing.assert_allclose(result, reference, atol=1e-4)


def test_values_beyond_float32_stay_finite() -> None:
    image = np.array([[[1e300, -1e300, 0.0]]])
    scaled = fixed_scaling(np.zeros((1, 1))).apply(image)
    largest = np.finfo(np.float32).max
    assert scaled.tolist() == [[[largest, -largest, 0.0]]]


def test_the_input_is_not_touched_and_not_shared(image: np.ndarray) -> None:
    image = image.astype(np.float32)
    before = image.copy()
    image.flags.writeable = False
    identity = replace(fixed_scaling(np.zeros((2, 1))), clip=(-1e9, 1e9))
    scaled = identity.apply(image)
    assert not np.shares_memory(scaled, image)
    scaled[:] = -1
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-5, 123456.789, 1e200, -1e-200])
@pytest.mark.parametrize("scaling", [zscore_scaling, percentile_scaling])
def test_rounding_is_no_contrast(scaling, value: float) -> None:
    flat = np.full((1, 333, 1001), value)
    assert scaling(sample_for_statistics(flat)).constant_channels == (0,)
    flat[0, ::2] = np.nextafter(value, np.inf)
    assert scaling(sample_for_statistics(flat)).constant_channels == (0,)


def test_one_huge_pixel_does_not_make_the_rest_constant() -> None:
    image = RNG.random((1, 200, 200))
    image[0, 5, 5] = 1e30
    assert percentile_scaling(sample_for_statistics(image)).constant_channels == ()


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_the_scaling_of_finite_images_is_what_it_always_was(joint: bool, dtype: type) -> None:
    """Shipped models were trained with it: every bit counts."""
    image = (RNG.random((3, 331, 257)) ** 4 * 255).astype(dtype)
    image[1] //= 7
    sample = image.reshape(3, -1).astype(np.float64)
    if joint:
        low, high = np.percentile(sample, [0.5, 99.9])
        lows, highs = np.full(3, low), np.full(3, high)
    else:
        lows, highs = np.percentile(sample, [0.5, 99.9], axis=1)
    scaling = percentile_scaling(sample_for_statistics(image), joint=joint)
    assert scaling.offset == tuple(lows)
    assert scaling.gain == tuple(1 / (highs - lows))


@pytest.mark.parametrize("name", NORMALISERS.names())
@pytest.mark.parametrize("blank", [0, 1])
def test_a_channel_of_nan_counts_as_constant(name: str, blank: int, image: np.ndarray) -> None:
    normaliser = partial(NORMALISERS.load(name), **NEEDED.get(name, {}))
    other = 1 - blank
    alone = normaliser(sample_for_statistics(image[other : other + 1]))
    image[blank] = np.nan
    scaling = normaliser(sample_for_statistics(image))
    assert scaling.constant_channels == (blank,)
    assert scaling.gain[blank] == 0
    assert scaling.gain[other] == pytest.approx(alone.gain[0], rel=1e-12)
    assert (scaling.apply(image)[blank] == 0).all()


def test_every_channel_is_measured_where_it_is_finite(image: np.ndarray) -> None:
    whole = [percentile_scaling(sample_for_statistics(c[None])) for c in (image[0], image[1, 32:])]
    image[1, :32] = np.nan
    scaling = percentile_scaling(sample_for_statistics(image))
    assert scaling.offset == tuple(w.offset[0] for w in whole)
    assert scaling.gain == tuple(w.gain[0] for w in whole)
    together = percentile_scaling(sample_for_statistics(image), joint=True)
    assert together.offset == (np.nanpercentile(image, 0.5),) * 2


@pytest.mark.parametrize(
    ("method", "options", "helpful"),
    [
        ("percentile", {"lo": 1}, "no option 'lo'. Its options are: low, high, clip, joint"),
        ("percentile", {"low": -3}, "low=-3 and high=99.9 can not be used"),
        ("percentile", {"low": 60, "high": 40}, "low=60"),
        ("percentile", {"low": float("nan")}, "low=nan"),
        ("percentile", {"low": "few"}, "Its options are: low"),
        ("percentile", {"clip": [1]}, "clip is"),
        ("percentile", {"clip": 3}, "Its options are: low"),
        ("percentile", {"joint": "no"}, "joint is 'no'"),
        ("zscore", {"low": 1}, "no option 'low'. Its options are: joint, eps"),
        ("steps", {}, "Its options are: steps"),
        ("steps", {"steps": [{"method": "fantasy"}]}, "no step 'fantasy'"),
        ("fixed", {"std": [0.0]}, "positive deviations"),
        ("pretrained", {"span": [255, 0]}, "the smaller one first"),
        ("pretrained", {"mean": [1, 2], "std": [1, 2, 3]}, "do not fit"),
        ("fixed", {"mean": [1, 2], "std": [1, 2, 3]}, "do not fit"),
        ("fixed", {"mean": ["red"]}, "Its options are: mean, std"),
        ("nothing", {}, "Known: percentile, zscore, fixed"),
    ],
)
def test_options_are_checked_without_an_image(method: str, options: dict, helpful: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_normalisation(Normalisation(method=method, options=options))
    assert helpful in str(caught.value)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("percentile", {}),
        ("percentile", {"low": 0, "high": 100, "clip": None, "joint": True}),
        ("percentile", {"clip": [-1, 3]}),
        ("zscore", {}),
        ("fixed", {"mean": [0.1, 0.2, 0.3], "std": [1.0]}),
    ],
)
def test_good_options_pass(method: str, options: dict) -> None:
    check_normalisation(Normalisation(method=method, options=options))


@pytest.mark.parametrize("factor", [1, 257])
def test_pretrained_brings_any_bit_depth_into_the_range_of_photographs(factor: int) -> None:
    """As torchvision's ToTensor and Normalize do with 8-bit colours."""
    image = RNG.integers(0, 256, (3, 40, 40))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (image / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    sample = sample_for_statistics(image * factor)
    exact = pretrained_scaling(sample, mean, std, span=(0, 255 * factor))
    np.testing.assert_allclose(exact.apply(image * factor), expected, atol=1e-5)
    own = pretrained_scaling(sample, mean, std, joint=True)
    np.testing.assert_allclose(own.apply(image * factor), expected, atol=0.1)


def test_pretrained_clips_what_is_far_beyond_the_image() -> None:
    image = np.append(RNG.normal(100, 5, 9999), 1e6).reshape(1, 100, 100)
    scaled = pretrained_scaling(sample_for_statistics(image)).apply(image)
    assert scaled.max() < 8
    assert abs(float(np.median(scaled))) < 1


@pytest.mark.parametrize("step", [1.0, 0.5], ids=["whole numbers", "halves"])
@pytest.mark.parametrize("spread", [0.2, 4, 3000, 1e6, 1e16], ids=str)
def test_percentiles_are_those_of_numpy_to_the_bit(spread, step):
    """Whether values are counted or sorted."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        middle = rng.uniform(-3, 3) * spread
        count = int(rng.integers(2, 900))
        values = np.round(rng.normal(middle, spread, count)) * step
        low, high = np.sort(rng.uniform(0, 100, 2))
        found = percentile_scaling(values[None], low=low, high=high, clip=None)
        expected = np.percentile(values, [low, high])
        if expected[0] < expected[1]:
            assert found.offset == (expected[0],)
            assert found.gain == (1 / (expected[1] - expected[0]),)
