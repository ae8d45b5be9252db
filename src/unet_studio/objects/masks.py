"""Labels that are classes: a foreground mask, or the likeliest class of each pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from unet_studio.inference.decision import Decision
from unet_studio.objects.cleaning import (
    connected,
    drop_small,
    fill_label_holes,
    largest_piece,
)
from unet_studio.objects.methods import Method, MethodOptions, Support, whole_frame_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.models.card import Representation


class ThresholdOptions(MethodOptions):
    """Options of the foreground mask."""

    threshold: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Pixels with a higher probability than this (0 to 1) are foreground. "
        "Lower it where parts are missed.",
    )
    min_size: int = Field(
        default=0,
        ge=0,
        description="Connected pieces with fewer pixels (voxels in 3D) than this are removed.",
    )
    fill_holes: bool = Field(
        default=False, description="Fill holes that are enclosed by foreground on all sides."
    )
    keep_largest: bool = Field(
        default=False,
        description="Keep only the largest connected piece of the frame (of the whole stack "
        "in 3D).",
    )


class ArgmaxOptions(MethodOptions):
    """Options of the likeliest class."""

    min_probability: float = Field(
        default=0,
        ge=0,
        le=1,
        description="Pixels whose likeliest class is less probable than this (0 to 1) "
        "become background. 0 keeps the likeliest class everywhere.",
    )


def foreground_mask(
    probabilities: NDArray[np.floating], options: ThresholdOptions, representation: Representation
) -> NDArray[np.integer]:
    """Return 1 where the foreground is more probable than the threshold, else 0.

    Parameters
    ----------
    probabilities : array of float, axes (C, [Z,] Y, X), range [0, 1]
        Channel 0 is foreground. NaN counts as background.
    """
    mask = probabilities[0] > options.threshold
    if options.keep_largest:
        mask = largest_piece(connected(mask)[0]) > 0
    if options.min_size > 1:
        mask = drop_small(connected(mask)[0], options.min_size) > 0
    labels = mask.astype(np.int32)
    return fill_label_holes(labels) if options.fill_holes else labels


def likeliest_class(
    probabilities: NDArray[np.floating], min_probability: float = 0.0
) -> NDArray[np.int32]:
    """Return the index of the most probable channel; the first one wins a tie.

    Parameters
    ----------
    probabilities : array of float, axes (C, [Z,] Y, X), range [0, 1]
        Channel 0 is background. NaN counts as background.
    """
    # One pass per channel is several times faster than argmax over the first axis.
    best: NDArray[Any] = probabilities[0].astype(np.float32)
    classes = np.zeros(best.shape, np.int32)
    for index in range(1, len(probabilities)):
        channel = probabilities[index].astype(np.float32)
        classes[channel > best] = index
        np.maximum(best, channel, out=best)
    if min_probability > 0:
        classes[best < min_probability] = 0
    classes[np.isnan(best)] = 0
    return classes


def argmax(
    probabilities: NDArray[np.floating], options: ArgmaxOptions, representation: Representation
) -> NDArray[np.integer]:
    """Return the likeliest class of each pixel; see :func:`likeliest_class`."""
    return likeliest_class(probabilities, options.min_probability)


def _foreground(
    probabilities: NDArray[np.floating], options: ThresholdOptions, representation: Representation
) -> NDArray[np.bool_]:
    return np.asarray(probabilities[0] > options.threshold)


def _pixelwise(options: ThresholdOptions) -> bool:
    return options.min_size <= 1 and not options.fill_holes and not options.keep_largest


THRESHOLD = Method(
    foreground_mask,
    ThresholdOptions,
    ("binary", "objects"),
    makes_objects=False,
    support=Support(
        _foreground,
        margin=lambda options: 1,
        # Pieces that touch only at corners can enclose a hole together.
        diagonal=lambda options: True,
        pixelwise=_pixelwise,
        refused=whole_frame_only,
        decision=lambda options: (
            Decision("foreground", options.threshold) if _pixelwise(options) else None
        ),
    ),
)
ARGMAX = Method(
    argmax,
    ArgmaxOptions,
    ("classes",),
    makes_objects=False,
    support=Support(
        argmax,
        margin=lambda options: 1,
        diagonal=lambda options: False,
        pixelwise=lambda options: True,
        decision=lambda options: Decision("likeliest", options.min_probability),
    ),
)
