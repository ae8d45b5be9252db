"""The part of a plane that the network looks at, and how it is read and scaled.

Only this part is read, so a click takes as long on a large image as on a small one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.clicks.prompts import Patch, PlaneBox, Point, box_at
from unet_studio.images.volume import Volume

SMALLEST = 16  # edge of a view in pixels of the image: zoomed in so far at most
LARGEST = 4096  # in pixels of the resolution level that is read


@dataclass(frozen=True)
class View:
    """A square of a plane that becomes the square crop of the network.

    Attributes
    ----------
    top, left : int
        First pixel, in pixels of the full resolution; may lie outside the image.
    size : int
        Edge in those pixels.
    edge : int
        Edge in working pixels.
    step : int
        Pixels of the full resolution per pixel of the level that is read; ``top``,
        ``left`` and ``size`` are multiples of it.
    """

    top: int
    left: int
    size: int
    edge: int
    step: int = 1

    @property
    def box(self) -> PlaneBox:
        """The part of the plane that it covers; may reach beyond the image."""
        return box_at(self.top, self.left, (self.size, self.size))

    @property
    def scale(self) -> float:
        """Working pixels per pixel of the image."""
        return self.edge / self.size

    def to_working(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """Return points of the plane (Y, X) in pixels of the crop, axes (points, 2)."""
        given = np.asarray(points, np.float64).reshape(-1, 2)
        shifted: NDArray[np.float64] = (given + 0.5 - (self.top, self.left)) * self.scale - 0.5
        return shifted


def view_around(centre: Point, size: float, edge: int, steps: Sequence[int] = (1,)) -> View:
    """Return the view of about ``size`` pixels around a point.

    Parameters
    ----------
    centre : (float, float)
        Y, X in pixels of the full resolution.
    size : float
        Wished edge in those pixels; kept within what can be read.
    edge : int
        Of the crop.
    steps : sequence of int
        Of the resolution levels that are there. The coarsest that still has as many
        pixels as the crop is taken.
    """
    size = max(float(SMALLEST), min(size, float(LARGEST * max(steps))))
    step = max((s for s in steps if s == 1 or size / s >= edge), default=1)
    step = max(step, min((s for s in steps if size / s <= LARGEST), default=step))
    count = max(1, round(size / step))
    top, left = (round((c - (count * step - 1) / 2) / step) * step for c in centre)
    return View(int(top), int(left), count * step, edge, step)


def reflected(start: int, stop: int, length: int) -> NDArray[np.int64]:
    """Return which of ``length`` pixels stand at start..stop when they are mirrored outside.

    The pixel at the edge is not repeated; images smaller than the span are mirrored
    again and again.
    """
    places = np.arange(start, stop)
    if length == 1:
        return np.zeros_like(places)
    period = 2 * (length - 1)
    places = np.abs(places) % period
    return np.where(places >= length, period - places, places)


def resample(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Scale images: antialiased and linear downwards, linear upwards.

    Parameters
    ----------
    values : array of float32, axes (C, Y, X)
    shape : (int, int)
        New Y and X.
    """
    if values.shape[1:] == shape:
        return values
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(values))[None]
    with torch.inference_mode():
        scaled = torch.nn.functional.interpolate(
            tensor, shape, mode="bilinear", align_corners=False, antialias=True
        )
    found: NDArray[np.float32] = scaled[0].numpy()
    return found


@dataclass
class PlaneReader:
    """Reads views of one plane; what was read is kept for the time of one answer only.

    Attributes
    ----------
    levels : mapping of int to Volume
        Step to resolution level; step 1 is the full resolution.
    place : mapping of axis letter to int
        Of the plane, along the axes that are not Y, X or C.
    channels : tuple of int
    """

    levels: Mapping[int, Volume]
    place: Mapping[str, int]
    channels: tuple[int, ...]
    _kept: dict[int, tuple[int, int, NDArray[np.float32]]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Y and X of the plane at full resolution."""
        info = self.levels[1].info
        return info.length("Y"), info.length("X")

    @property
    def steps(self) -> tuple[int, ...]:
        """Of the levels, finest first."""
        return tuple(sorted(self.levels))

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Read each pixel once while it is open; the image may change afterwards."""
        try:
            yield
        finally:
            self._kept.clear()

    def crop(self, view: View) -> NDArray[np.float32]:
        """Return what a view shows, axes (C, edge, edge), in the image's intensities."""
        block = self._block(view.step, view.top, view.left, view.size)
        return resample(block, (view.edge, view.edge))

    def prefetch(self, views: Sequence[View]) -> None:
        """Read in one go what several views of full resolution will show."""
        fine = [view for view in views if view.step == 1]
        if len(fine) > 1:
            largest = max(fine, key=lambda view: view.size)
            self._block(1, largest.top, largest.left, largest.size)

    def _block(self, step: int, top: int, left: int, size: int) -> NDArray[np.float32]:
        first, second, edge = top // step, left // step, size // step
        if step in self._kept:
            y0, x0, kept = self._kept[step]
            y, x = first - y0, second - x0
            if y >= 0 and x >= 0 and y + edge <= kept.shape[1] and x + edge <= kept.shape[2]:
                return kept[:, y : y + edge, x : x + edge]
        volume = self.levels[step]
        rows = reflected(first, first + edge, volume.info.length("Y"))
        columns = reflected(second, second + edge, volume.info.length("X"))
        region: dict[str, Any] = {
            **self.place,
            "Y": slice(int(rows.min()), int(rows.max()) + 1),
            "X": slice(int(columns.min()), int(columns.max()) + 1),
        }
        found = volume.read(region, self.channels).astype(np.float32)
        if len(found[0]) != edge or len(found[0, 0]) != edge or (np.diff(rows) != 1).any():
            found = found[:, rows - rows.min()][:, :, columns - columns.min()]
        elif (np.diff(columns) != 1).any():
            found = found[:, :, columns - columns.min()]
        self._kept[step] = first, second, found
        return found


def seen(patch: Patch | None, view: View) -> NDArray[np.float32] | None:
    """Return a mask or probabilities of the plane as a view shows them, axes (edge, edge).

    Outside the plane it is 0. None stays None.
    """
    if patch is None:
        return None
    values = patch.within(view.box).astype(np.float32)
    shown: NDArray[np.float32] = resample(values[None], (view.edge, view.edge))[0].clip(0, 1)
    return shown


def unseen(values: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Return what was found on a crop in pixels of the image, axes (size, size)."""
    found: NDArray[np.float32] = resample(values[None], (view.size, view.size))[0]
    return found
