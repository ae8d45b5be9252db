"""What was changed in a copy of predicted labels, as annotations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import rearrange
from unet_studio.errors import AnnotationError
from unet_studio.training.annotations import (
    Annotations,
    Mode,
    checked_axes,
    take_pixels,
    whole_numbers,
)


def corrections(
    predicted: NDArray[Any],
    corrected: NDArray[Any],
    axes: str | None = None,
    mode: Mode = "objects",
) -> Annotations:
    """Take what was changed in a copy of predicted labels as annotations.

    Parameters
    ----------
    predicted, corrected : array of int, same shape
        Labels as a model gives them: 0 is background.
    axes : str, optional
    mode : {"classes", "objects"}
        Whether the numbers are classes or objects.

    Returns
    -------
    Annotations
        Of the edited pixels alone.

    Raises
    ------
    AnnotationError
        If the shapes differ, or what was changed is no label.
    """
    if predicted.shape != corrected.shape:
        raise AnnotationError(
            f"The corrected labels have the shape {corrected.shape}, the predicted ones "
            f"{predicted.shape}. Correct a copy of the prediction itself."
        )
    axes, order = checked_axes(corrected, axes)
    before, after = (rearrange(labels, axes, order) for labels in (predicted, corrected))
    # The whole array of what was edited would take more memory than the labels themselves.
    places = np.argwhere(before != after)
    values = whole_numbers(after[tuple(places.T)]) + 1
    return take_pixels(places, values, after.shape, order, mode)
