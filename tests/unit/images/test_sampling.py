"""Large volumes are measured in part, and in full where that part shows nothing."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from unet_studio.errors import Cancelled, ImageError
from unet_studio.images import sampling
from unet_studio.images.sampling import measure_scaling, sample_volume
from unet_studio.images.volume import as_volume
from unet_studio.recipe import Normalisation

SHAPE = (6, 300, 400)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code at a hundredth of the size."""
    monkeypatch.setattr(sampling, "_WHOLE_LIMIT", 10_000)
    monkeypatch.setattr(sampling, "_BLOCK_EDGE", 16)
    monkeypatch.setattr(sampling, "_SEARCH_EDGES", {"T": 1, "Z": 4, "Y": 70, "X": 70})
    monkeypatch.setattr(sampling, "_SEARCH_VALUES", 20_000)


def measured(image: np.ndarray, axes: str, method: str = "percentile"):
    channels = range(image.shape[axes.index("C")] if "C" in axes else 1)
    return measure_scaling(
        as_volume(image, axes), channels, Normalisation(method=method), lambda b: b
    )


def unseen(axes: str = "ZYX") -> tuple[int, ...]:
    """Return a pixel that none of the sampled blocks holds."""
    seen = np.zeros(SHAPE, bool)
    for region in sampling._regions(dict(zip("ZYX", SHAPE, strict=True))):
        seen[tuple(region[a] for a in "ZYX")] = True
    assert not seen.all()
    return tuple(np.argwhere(~seen)[0])


@pytest.mark.parametrize("method", ["percentile", "zscore"])
def test_one_bright_spot_outside_the_blocks_is_found(method: str) -> None:
    image = np.zeros(SHAPE, np.uint16)
    image[unseen()] = 500
    scaling = measured(image, "ZYX", method)
    assert scaling.constant_channels == ()
    assert scaling.apply(image[None]).max() >= 1


def test_signal_within_a_frame_of_nan_is_found() -> None:
    image = np.full(SHAPE, np.nan, np.float32)
    z, y, x = unseen()
    image[z, y, x], image[z, y, x + 1] = 3, 5
    scaling = measured(image, "ZYX")
    assert (scaling.offset[0], scaling.constant_channels) == (pytest.approx(3, abs=0.1), ())


@pytest.mark.parametrize("value", [0, 7.5])
def test_a_constant_volume_is_constant_after_all(value: float) -> None:
    assert measured(np.full(SHAPE, value), "ZYX").constant_channels == (0,)
    frame = np.full(SHAPE, np.nan)
    frame[unseen()] = value  # one pixel is known, and tells nothing
    assert measured(frame, "ZYX").constant_channels == (0,)


def test_a_volume_of_nan_is_refused() -> None:
    with pytest.raises(ImageError, match="no finite pixel"):
        measured(np.full(SHAPE, np.nan), "ZYX")


@pytest.mark.parametrize("blank", [0, np.nan])
def test_a_channel_with_contrast_is_measured_as_ever(blank: float) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(100, 9, (2, *SHAPE)).astype(np.float32)
    alone = measured(image[:1], "CZYX", "zscore")
    image[1] = blank
    both = measured(image, "CZYX", "zscore")
    assert both.constant_channels == (1,)
    assert both.offset[0] == pytest.approx(alone.offset[0], rel=1e-12)
    sparse = image.copy()
    sparse[1] = 0
    sparse[(1, *unseen())] = 9
    found = measured(sparse, "CZYX", "zscore")
    assert found.constant_channels == ()
    assert found.offset[0] == pytest.approx(alone.offset[0], rel=1e-12)


def test_neither_order_of_axes_nor_chunks_change_the_scaling() -> None:
    image = np.zeros(SHAPE, np.uint16)
    image[unseen()] = 500
    image[2, 30:34, 33] = 77
    plain = measured(image, "ZYX")
    lazy = as_volume(da.from_array(image, (2, 100, 77)), "ZYX")
    normalisation = Normalisation()
    assert measure_scaling(lazy, (0,), normalisation, lambda b: b) == plain
    turned = np.ascontiguousarray(image.transpose(2, 0, 1))
    assert measured(turned, "XZY") == plain


def test_a_search_reads_little_at_once_and_can_be_stopped() -> None:
    largest = 0

    def note(block: np.ndarray) -> np.ndarray:
        nonlocal largest
        largest = max(largest, block.size)
        return block

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 120:
            raise Cancelled("stopped")

    volume = as_volume(np.zeros(SHAPE, np.uint8), "ZYX")
    sample_volume(volume, (0,), note)
    assert largest <= 4 * 70 * 70
    with pytest.raises(Cancelled):
        sample_volume(volume, (0,), note, check)
    assert calls == 120
