"""Connected components: each piece of foreground that hangs together is an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from unet_studio.objects.cleaning import (
    connected,
    drop_small,
    fill_label_holes,
    largest_piece,
)
from unet_studio.objects.masks import likeliest_class
from unet_studio.objects.methods import Method, MethodOptions, Support, whole_frame_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.models.card import Representation


class ComponentsOptions(MethodOptions):
    """Options of connected components."""

    threshold: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Pixels with a higher probability than this (0 to 1) are foreground. "
        "Raise it where neighbours run together. Not used by models of several classes.",
    )
    min_size: int = Field(
        default=10,
        ge=0,
        description="Objects with fewer pixels (voxels in 3D) than this are removed.",
    )
    fill_holes: bool = Field(
        default=True, description="Fill holes that are enclosed by one object on all sides."
    )
    diagonal: bool = Field(
        default=False,
        description="Let pixels that touch only at a corner belong to the same object.",
    )
    keep_largest: bool = Field(
        default=False,
        description="Keep only the largest object of the frame (of the whole stack in 3D).",
    )


def components(
    probabilities: NDArray[np.floating],
    options: ComponentsOptions,
    representation: Representation,
) -> NDArray[np.integer]:
    """Make an object of each connected piece of the foreground, or of each class.

    Parameters
    ----------
    probabilities : array of float, axes (C, [Z,] Y, X), range [0, 1]
    representation : {"binary", "classes", "objects"}
        With "classes", pieces of different classes are different objects even
        where they touch. Otherwise channel 0 is the foreground.

    Returns
    -------
    array of int32, axes ([Z,] Y, X)
    """
    if representation == "classes":
        classes = likeliest_class(probabilities)
        labels = np.zeros(classes.shape, np.int32)
        total = 0
        for index in range(1, len(probabilities)):
            pieces, count = connected(classes == index, options.diagonal)
            labels += np.where(pieces > 0, pieces + np.int32(total), np.int32(0))
            total += count
    else:
        labels, _ = connected(probabilities[0] > options.threshold, options.diagonal)
    # Fill first: a ring is as large as the disc it encloses.
    if options.fill_holes:
        labels = fill_label_holes(labels)
    if options.keep_largest:
        labels = largest_piece(labels)
    return drop_small(labels, options.min_size)


def _pieces(
    probabilities: NDArray[np.floating],
    options: ComponentsOptions,
    representation: Representation,
) -> NDArray[Any]:
    if representation == "classes":
        return likeliest_class(probabilities)
    return np.asarray(probabilities[0] > options.threshold)


COMPONENTS = Method(
    components,
    ComponentsOptions,
    ("binary", "classes", "objects"),
    makes_objects=True,
    # A hole ends inside its object's bounding box.
    support=Support(
        _pieces,
        margin=lambda options: 1,
        diagonal=lambda options: options.diagonal,
        refused=whole_frame_only,
    ),
)
