"""Prepare brain MRI as the U-Net of Buda et al. was trained: whole slices of 256 × 256.

Follows the reference implementation (https://github.com/mateuszbuda/brain-segmentation-pytorch,
``utils.py`` and ``dataset.py``): of a volume, what is below a tenth of its maximum is
set to zero, the rest is cropped to its bounding box, padded to a square, resized to
256 × 256 by splines of order 2, cut at the 10th and 99th percentile, and each channel
brought to mean 0 and deviation 1 over the volume.

The reference leaves the first and the last slice of a volume out. They do not count
for box, percentiles, mean and deviation here either, but are prepared with those
of the others and so get a result, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unet_studio.images.preparation import Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.axes import Axes

_THRESHOLD = 0.1  # of the volume's maximum
_PERCENTILES = (10.0, 99.0)
_SPLINE_ORDER = 2
# A stack of fewer slices has none left without its first and last.
_SMALLEST_VOLUME = 3
# Deviations below this share of the values are rounding, not contrast.
_ROUNDING = 1e-12

Box = tuple[slice, slice]


@dataclass(frozen=True)
class BrainMri:
    """Preparation ``"brain-mri"``.

    Parameters
    ----------
    size : int
        Edge of the slices that the network sees, in pixels.

    Notes
    -----
    A single slice has no volume to be measured: it is padded and resized whole, and
    normalised by its own means and deviations alone.
    """

    size: int = 256

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 16 or self.size % 16:
            raise ValueError(f"size is {self.size!r}; it is a multiple of 16")

    def shape(self, shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
        """Forecast what the network will see; see :class:`Preparer`."""
        return (*shape[:-2], self.size, self.size)

    def in_words(self) -> str:
        """Return what is done, in sentences."""
        low, high = _PERCENTILES
        return (
            f"Of a volume, what is below {_THRESHOLD:g} of its maximum is set to 0, and the rest "
            "is cropped to its bounding box. Every slice is padded to a square with 0 and resized "
            f"to {self.size} × {self.size} pixels by splines of order {_SPLINE_ORDER}. "
            f"Intensities are cut at the percentiles {low:g} and {high:g} of all channels "
            "together, then each channel is brought to mean 0 and deviation 1. All of this is "
            "measured on the volume without its first and last slice. A slice alone is padded, "
            "resized and brought to mean 0 and deviation 1 by itself. What the network says is "
            "resized back linearly, "
            "with 0 outside of the box."
        )

    def prepare(self, frame: NDArray[np.float32], axes: Axes) -> Prepared:
        """Prepare a slice (C, Y, X) or a volume (C, Z, Y, X)."""
        if frame.ndim == 4 and frame.shape[1] > 1:
            return self._volume(frame)
        slices = frame if frame.ndim == 4 else frame[:, None]
        box = (slice(0, slices.shape[2]), slice(0, slices.shape[3]))
        image, flat = _standardised(self._resized(slices, box), slice(None))
        whole = _Back(slices.shape[1:], slice(0, 1), box, frame.ndim == 4)
        return Prepared(image if frame.ndim == 4 else image[:, 0], whole.restore, warnings=flat)

    def _volume(self, frame: NDArray[np.float32]) -> Prepared:
        depth = frame.shape[1]
        inner = slice(1, depth - 1) if depth >= _SMALLEST_VOLUME else slice(0, depth)
        highest = float(frame[:, inner].max())
        bright = frame >= _THRESHOLD * highest
        if highest <= 0 or not bright[:, inner].any():
            return self._nothing(frame)
        present: NDArray[np.bool_] = np.any(bright, axis=0)
        shown = _extent(np.any(present, axis=(1, 2)))
        measured = _extent(np.any(present[inner], axis=(1, 2)), inner.start - shown.start)
        box = (
            _extent(np.any(present[inner], axis=(0, 2))),
            _extent(np.any(present[inner], axis=(0, 1))),
        )
        kept = np.where(bright[:, shown], frame[:, shown], np.float32(0))
        resized = self._resized(kept, box, highest)
        image, flat = _standardised(resized, measured, percentiles=True)
        whole = _Back(frame.shape[1:], shown, box, True)
        return Prepared(whole.fill(image), whole.restore, whole.unseen(), flat)

    def _nothing(self, frame: NDArray[np.float32]) -> Prepared:
        nothing = np.zeros((*frame.shape[:2], self.size, self.size), np.float32)
        whole = _Back(frame.shape[1:], slice(0, 0), (slice(0, 0), slice(0, 0)), True)
        text = "There is nothing brighter than 0 in the image, so nothing was found."
        return Prepared(nothing, whole.restore, whole.unseen(), (text,))

    def _resized(
        self, frame: NDArray[np.float32], box: Box, highest: float | None = None
    ) -> NDArray[np.float64]:
        """Return the box of each slice (C, Z, Y, X), padded to a square and resized."""
        cut = frame[(..., *box)].astype(np.float64)
        low, high = float(cut.min()), float(cut.max()) if highest is None else highest
        before, edge = _square(box)
        result = np.empty((*cut.shape[:2], self.size, self.size))
        for place in np.ndindex(cut.shape[:2]):
            padded = np.zeros((edge, edge))
            padded[_inside(before, cut.shape[-2:])] = cut[place]
            result[place] = _resize(padded, self.size, _SPLINE_ORDER)
        # Splines overshoot at edges.
        return result.clip(min(low, 0.0), max(high, 0.0))


@dataclass(frozen=True)
class _Back:
    """The way back: from the network's slices to a volume of shape Z Y X."""

    shape: tuple[int, ...]
    slices: slice
    box: Box
    deep: bool

    def restore(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring (channels, [Z,] size, size) onto (channels, [Z,] Y, X); 0 outside."""
        stack = values if self.deep else values[:, None]
        result = np.zeros((stack.shape[0], *self.shape), np.float32)
        before, edge = _square(self.box)
        lengths = tuple(span.stop - span.start for span in self.box)
        if edge:
            for channel, index in np.ndindex(stack.shape[0], self.slices.stop - self.slices.start):
                depth = self.slices.start + index
                square = _resize(stack[channel, depth].astype(np.float64), edge, 1)
                result[(channel, depth, *self.box)] = square[_inside(before, lengths)]
        return result if self.deep else result[:, 0]

    def fill(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return slices (C, slices, Y, X) with empty ones for those that are not shown."""
        result = np.zeros((image.shape[0], self.shape[0], *image.shape[2:]), np.float32)
        result[:, self.slices] = image
        return result

    def unseen(self) -> NDArray[np.bool_]:
        """Where the network was shown nothing, axes Z Y X."""
        result = np.ones(self.shape, np.bool_)
        result[(self.slices, *self.box)] = False
        return result


def _extent(present: NDArray[np.bool_], offset: int = 0) -> slice:
    """From the first to the last place that is present."""
    places = np.flatnonzero(present)
    return slice(offset + int(places[0]), offset + int(places[-1]) + 1)


def _square(box: Box) -> tuple[tuple[int, int], int]:
    """Return how far a box is from the start of its square, and the square's edge."""
    lengths = [span.stop - span.start for span in box]
    edge = max(lengths)
    return ((edge - lengths[0]) // 2, (edge - lengths[1]) // 2), edge


def _inside(before: tuple[int, int], lengths: tuple[int, ...]) -> Box:
    first, second = (slice(b, b + n) for b, n in zip(before, lengths, strict=True))
    return first, second


def _resize(plane: NDArray[np.float64], size: int, order: int) -> NDArray[np.float64]:
    """Resize a square plane; pixel areas correspond, outside is 0 (splines) or the border."""
    if plane.shape == (size, size):
        return plane
    from skimage.transform import resize

    mode = "constant" if order > 1 else "edge"
    resized: NDArray[np.float64] = resize(
        plane, (size, size), order=order, mode=mode, anti_aliasing=False, preserve_range=True,
        clip=False,
    )  # fmt: skip
    return resized


def _standardised(
    volume: NDArray[np.float64], measured: slice, *, percentiles: bool = False
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Normalise (C, Z, Y, X) by what some of its slices hold; also say what is constant."""
    if percentiles:
        low, high = np.percentile(volume[:, measured], _PERCENTILES)
        if high > low:
            volume = (volume.clip(low, high) - low) / (high - low)
    part = volume[:, measured]
    mean = part.mean(axis=(1, 2, 3), keepdims=True)
    deviation = part.std(axis=(1, 2, 3), keepdims=True)
    flat = deviation <= _ROUNDING * np.abs(part).max(axis=(1, 2, 3), keepdims=True)
    scaled = np.where(flat, 0.0, (volume - mean) / np.where(flat, 1.0, deviation))
    said = tuple(
        f"Channel {channel + 1} of {len(volume)} is constant and carries no information."
        for channel in np.flatnonzero(flat)
    )
    return scaled.astype(np.float32), said
