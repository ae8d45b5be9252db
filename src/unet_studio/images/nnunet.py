"""Prepare images as nnU-Net v2 does: turn, crop, normalise, resample, pad; and back.

After Isensee et al. 2021 (doi:10.1038/s41592-020-01008-z) and version 2 of the
reference implementation: ``DefaultPreprocessor.run_case_npy`` for the way there and
``convert_predicted_logits_to_segmentation_with_correct_shape`` for the way back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from unet_studio.axes import PIXEL
from unet_studio.errors import AxesError, ImageError
from unet_studio.images.preparation import Prepared
from unet_studio.images.resampling import ANISOTROPY, resample, resampled_shape, separate_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unet_studio.axes import Axes

Scheme = Literal["zscore", "ct", "rescale", "rgb", "none"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_MILLIMETRES = {
    "kilometer": 1e6, "meter": 1e3, "centimeter": 10.0, "millimeter": 1.0, "micrometer": 1e-3,
    "nanometer": 1e-6, "picometer": 1e-9, "angstrom": 1e-7, "inch": 25.4,
}  # fmt: skip
# What nnU-Net takes for the distance of planes that have no neighbours.
_ALONE = 999.0
_SMALLEST_DEVIATION = 1e-8
# An image that would become so many times larger or smaller has wrong pixel sizes.
_LARGEST_CHANGE = 1000.0
# What a network was not shown is background. Logits: softmax makes 0 and 1 of them.
_SURELY_NOT = -50.0
_SCHEMES = {
    "zscore": "mean 0 and deviation 1{masked}",
    "ct": "cut to {c.low:g} to {c.high:g}, minus {c.mean:g}, divided by {c.std:g}",
    "rescale": "minimum to 0 and maximum to 1",
    "rgb": "divided by 255",
    "none": "as it is",
}
_MASKED = " where the image is not 0"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelScheme(_Frozen):
    """How one channel is normalised.

    Attributes
    ----------
    scheme : {"zscore", "ct", "rescale", "rgb", "none"}
        Zero mean and unit deviation; clipped to ``low`` and ``high``, then ``mean`` and
        ``std`` of the training set; minimum to 0 and maximum to 1; divided by 255; as it is.
    masked : bool
        "zscore": measured and applied only where the image is not 0.
    mean, std, low, high : float
        In intensity units; of "ct" alone.
    """

    scheme: Scheme = "zscore"
    masked: bool = False
    mean: float = Field(default=0.0, allow_inf_nan=False)
    std: float = Field(default=1.0, allow_inf_nan=False)
    low: float = Field(default=0.0, allow_inf_nan=False)
    high: float = Field(default=1.0, allow_inf_nan=False)


class Interpolation(_Frozen):
    """How voxels of another size are made; see :func:`unet_studio.images.resampling.resample`."""

    order: int = Field(default=3, ge=0, le=5)
    order_along: int = Field(default=0, ge=0, le=5)
    separate: bool | None = None
    threshold: Positive = ANISOTROPY


@dataclass(frozen=True)
class _Frame:
    """A frame in nnU-Net's order of axes, always with three of them."""

    order: tuple[int, int, int]  # of the frame's axes Z Y X
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    target: tuple[float, ...]
    note: str


class NnunetPreparer(_Frozen):
    """Prepares frames for one configuration of an nnU-Net plan.

    Attributes
    ----------
    spacing : tuple of float
        Voxel size that the network was trained at, in its order of axes: two of a
        network that takes planes, which are then not resampled across.
    patch : tuple of int
        What frames are padded to, in pixels, with zeros, in the network's order of axes.
    channels : tuple of ChannelScheme
    transpose : tuple of int
        Which of the image's axes Z, Y, X become the network's first, second, third.
    pixel_sizes : {"millimeter", "given", "none"}
        Whether ``spacing`` is in millimetres (medical images), in whatever unit the
        images' pixel sizes were given in, or not meant at all (ordinary pictures).
    data, logits : Interpolation
        Of images, and of what the network says on the way back.
    remark : str
        What the user should know at each run.
    """

    spacing: tuple[Positive, ...] = Field(min_length=2, max_length=3)
    patch: tuple[Annotated[int, Field(ge=1)], ...]
    channels: tuple[ChannelScheme, ...] = Field(min_length=1)
    transpose: tuple[int, int, int] = (0, 1, 2)
    pixel_sizes: Literal["millimeter", "given", "none"] = "millimeter"
    data: Interpolation = Interpolation()
    logits: Interpolation = Interpolation(order=1)
    remark: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> NnunetPreparer:
        if len(self.patch) != len(self.spacing):
            raise ValueError("patch and spacing have not the same number of axes")
        if sorted(self.transpose) != [0, 1, 2]:
            raise ValueError(f"transpose is {self.transpose}, which is no order of three axes")
        return self

    def shape(self, shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
        """Forecast what the network will see of a frame that is not cropped.

        Raises
        ------
        AxesError
            If the pixel sizes can not be right.
        """
        frame = self._frame(shape, axes)
        seen = self._padded(resampled_shape(frame.shape, frame.spacing, frame.target))
        return seen[-len(shape) :]

    def in_words(self) -> str:
        """Return what is done, in sentences."""
        schemes = ", ".join(_SCHEMES[c.scheme].format(c=c, masked=_MASKED * c.masked)
                            for c in self.channels)  # fmt: skip
        turned = (
            ""
            if self.transpose == (0, 1, 2)
            else (
                " Axes are taken in the order " + ", ".join("ZYX"[a] for a in self.transpose) + "."
            )
        )
        resized = (
            ""
            if self.pixel_sizes == "none"
            else (
                f" Then it is resampled to pixels of {_in_words(self.spacing)} ({self._unit}) by "
                f"splines of order {self.data.order}."
            )
        )
        return (
            f"As nnU-Net v2 does.{turned} The image is cropped to the box of what is not 0, and "
            f"its channels are normalised: {schemes}.{resized} It is padded with 0 to "
            f"{_in_words(self.patch)} pixels or more, lying in the middle. What the network says "
            "takes the same way back."
        )

    def prepare(self, frame: NDArray[np.float32], axes: Axes) -> Prepared:
        """Turn, crop, normalise, resample and pad one frame (C, [Z,] Y, X).

        Raises
        ------
        AxesError
            If the pixel sizes can not be right.
        ImageError
            If the image has not the range or the channels that the model needs.
        """
        if len(frame) != len(self.channels):
            raise ImageError(
                f"The image has {len(frame)} channels, the model normalises "
                f"{len(self.channels)}. Choose the channels that it was trained on."
            )
        plan = self._frame(frame.shape[1:], axes)
        volume = frame if frame.ndim == 4 else frame[:, None]
        volume = np.transpose(volume, (0, *(a + 1 for a in plan.order)))
        inside = nonzero_mask(volume)
        box = bounding_box(inside)
        cropped = volume[(slice(None), *box)].astype(np.float32)  # a copy
        for channel, scheme in zip(cropped, self.channels, strict=True):
            normalise(channel, scheme, inside[box])
        shape = resampled_shape(cropped.shape[1:], plan.spacing, plan.target)
        axis = _apart(plan.spacing, plan.target, self.data)
        resized = resample(
            cropped, shape, axis, order=self.data.order, order_along=self.data.order_along
        )
        margins = _margins(shape, self._padded(shape))
        image = np.pad(resized, [(0, 0), *margins])
        way_back = _WayBack(plan, self.logits, frame.ndim, cropped.shape[1:], box, margins)
        told = tuple(text for text in (plan.note, self.remark) if text)
        image = np.ascontiguousarray(image if frame.ndim == 4 else image[:, 0])
        return Prepared(image, way_back, warnings=told, restores="logits")

    def _padded(self, shape: Sequence[int]) -> tuple[int, ...]:
        free = len(shape) - len(self.patch)
        padded = (max(n, p) for n, p in zip(shape[free:], self.patch, strict=True))
        return (*shape[:free], *padded)

    def _frame(self, shape: tuple[int, ...], axes: Axes) -> _Frame:
        order = self.transpose
        if len(shape) == 2:
            # A plane alone is what the network takes for one of a stack.
            first, second = (a for a in order if a) if order[0] == 0 else (1, 2)
            order, shape = (0, first, second), (1, *shape)
        spacing, note = self._spacing(axes)
        turned = tuple(spacing[a] for a in order)
        target = self.spacing if len(self.spacing) == 3 else (turned[0], *self.spacing)
        shape = tuple(shape[a] for a in order)
        change = math.prod(old / new for old, new in zip(turned, target, strict=True))
        if not 1 / _LARGEST_CHANGE <= change <= _LARGEST_CHANGE:
            raise AxesError(
                f"The image's pixels measure {_in_words(turned)}, those of the model "
                f"{_in_words(target)} ({self._unit}): the image would have {change:.3g} times as "
                "many. Correct the pixel size of the image, or its unit."
            )
        return _Frame(order, shape, turned, target, note)

    def _spacing(self, axes: Axes) -> tuple[tuple[float, ...], str]:
        """Return the steps along Z, Y, X, and what was assumed of them."""
        names = axes.spatial
        alone = () if "Z" in names else (_ALONE,)
        if self.pixel_sizes == "none":
            return (_ALONE, 1.0, 1.0), ""
        known = axes.select(names)
        pairs = list(zip(known.scale, known.units, strict=True))
        if any(not (np.isfinite(s) and s > 0) for s, _ in pairs):
            raise AxesError(
                f"The image's pixel sizes {known.scale} are not positive numbers. Correct them."
            )
        note = ""
        if all(pair == (1.0, PIXEL) for pair in pairs):
            note = (
                "The image does not say how large its pixels are; they are taken to measure "
                f"1 {self._unit}, where the model was trained at {_in_words(self.spacing)}."
            )
        if self.pixel_sizes == "millimeter":
            steps = tuple(float(s) * _MILLIMETRES.get(unit, 1.0) for s, unit in pairs)
        else:
            steps = tuple(float(s) for s, _ in pairs)
        return (*alone, *steps), note

    @property
    def _unit(self) -> str:
        return "mm" if self.pixel_sizes == "millimeter" else "in the unit of its training images"


@dataclass(frozen=True)
class _WayBack:
    """Takes logits from what the network saw back onto the frame."""

    plan: _Frame
    interpolation: Interpolation
    ndim: int
    cropped: tuple[int, ...]
    box: tuple[slice, ...]
    margins: Sequence[tuple[int, int]]

    def __call__(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits (K, [Z,] Y, X) of the frame; outside of the crop, background."""
        volume = logits if self.ndim == 4 else logits[:, None]
        ends = zip(self.margins, volume.shape[1:], strict=True)
        volume = volume[(slice(None), *(slice(low, n - high) for (low, high), n in ends))]
        axis = _apart(self.plan.target, self.plan.spacing, self.interpolation)
        resized = resample(
            volume,
            self.cropped,
            axis,
            order=self.interpolation.order,
            order_along=self.interpolation.order_along,
        )
        result = np.full((len(logits), *self.plan.shape), _SURELY_NOT, np.float32)
        result[0] = 0
        result[(slice(None), *self.box)] = resized
        back = np.argsort(self.plan.order)
        result = np.transpose(result, (0, *(a + 1 for a in back)))
        return np.ascontiguousarray(result if self.ndim == 4 else result[:, 0])


def nonzero_mask(volume: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where an image (C, Z, Y, X) is not 0 in some channel, holes filled."""
    from scipy.ndimage import binary_fill_holes

    return np.asarray(binary_fill_holes((volume != 0).any(axis=0)), bool)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box around what is true; everything if nothing is."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        there = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(there[0]), int(there[-1]) + 1) if there.size else slice(None))
    return tuple(box)


def normalise(
    channel: NDArray[np.float32], scheme: ChannelScheme, inside: NDArray[np.bool_]
) -> None:
    """Normalise one channel (Z, Y, X) in place; ``inside`` is where the image is not 0.

    Raises
    ------
    ImageError
        If a picture is not within 0 to 255, as "rgb" needs it.
    """
    if scheme.scheme == "zscore":
        chosen = inside if scheme.masked and inside.any() else np.ones_like(inside)
        values = channel[chosen]
        deviation = max(float(values.std()), _SMALLEST_DEVIATION)
        channel[chosen] = (values - values.mean()) / np.float32(deviation)
    elif scheme.scheme == "ct":
        np.clip(channel, scheme.low, scheme.high, out=channel)
        channel -= np.float32(scheme.mean)
        channel /= np.float32(max(scheme.std, _SMALLEST_DEVIATION))
    elif scheme.scheme == "rescale":
        channel -= channel.min()
        channel /= max(float(channel.max()), _SMALLEST_DEVIATION)
    elif scheme.scheme == "rgb":
        if channel.min() < 0 or channel.max() > 255:
            raise ImageError(
                f"The model takes pictures of 8 bit (0 to 255), but the image reaches from "
                f"{channel.min():g} to {channel.max():g}. Convert it to 8 bit first."
            )
        channel /= 255


def _apart(spacing: Sequence[float], target: Sequence[float], how: Interpolation) -> int | None:
    return separate_axis(spacing, target, how.separate, how.threshold)


def _margins(shape: Sequence[int], padded: Sequence[int]) -> list[tuple[int, int]]:
    """Return what is added before and after along each axis: the image lies in the middle."""
    missing = [p - n for n, p in zip(shape, padded, strict=True)]
    return [(m // 2, m - m // 2) for m in missing]


def _in_words(sizes: Sequence[float]) -> str:
    return " × ".join(f"{size:g}" for size in sizes)
