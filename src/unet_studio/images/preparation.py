"""What some networks need done to a whole image first, and how to undo it on the result.

Most networks take an image as it is, in tiles. Some were trained on images that
were cropped, resized or resampled as a whole. A preparation does that to one frame
(a plane, or a stack) at a time, and brings what the network says back onto the
image's own grid, pixel for pixel.

To add one, write a class with the two methods of :class:`Preparer` and name it
in :data:`PREPARATIONS`. A third, ``in_words() -> str``, may say in sentences what it does, for
those who want to do the same elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from unet_studio.errors import RecipeError, UNetStudioError
from unet_studio.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unet_studio.axes import Axes
    from unet_studio.recipe import Preparation


@dataclass(frozen=True)
class Prepared:
    """One frame as the network will see it.

    Attributes
    ----------
    image : array of float32, axes (C, [Z,] Y, X)
        As many axes as the frame had, lengths may differ.
    restore : callable
        Takes what the network says of ``image``, float32 (channels, [Z,] Y, X), and
        returns it on the frame's own grid, float32. What the network was not shown
        is background there.
    unseen : array of bool, axes ([Z,] Y, X) of the frame, or None
        Where the network was shown nothing: background, whatever ``restore`` says
        there (0 is background as a probability, but not as a logit).
    warnings : tuple of str
        What the user should know of the frame.
    restores : {"probabilities", "logits"}
        What ``restore`` is to be given. With "probabilities" it is given logits all the
        same if the run keeps logits; with "logits" it always is, and probabilities are
        made of what it returns.
    """

    image: NDArray[np.float32]
    restore: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    unseen: NDArray[np.bool_] | None = None
    warnings: tuple[str, ...] = ()
    restores: Literal["probabilities", "logits"] = "probabilities"


class Preparer(Protocol):
    """Brings whole frames into the form that a network was trained on."""

    def shape(self, shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
        """Forecast the spatial shape that the network will see: at least as large.

        Parameters
        ----------
        shape : tuple of int
            Of the frame, [Z] Y X.
        axes : Axes
            Its spatial axes, with pixel sizes and units.
        """
        ...

    def prepare(self, frame: NDArray[np.float32], axes: Axes) -> Prepared:
        """Prepare one frame.

        Parameters
        ----------
        frame : array of float32, axes (C, [Z,] Y, X)
            Finite everywhere; not to be written to.
        axes : Axes
            Its spatial axes, with pixel sizes and units.
        """
        ...


PREPARATIONS: Registry[Callable[..., Preparer]] = Registry(
    "preparation",
    {
        "brain-mri": "unet_studio.images.brain_mri:BrainMri",
        "nnunet": "unet_studio.images.nnunet:NnunetPreparer",
    },
    entry_points="unet_studio.preparations",
)


def open_preparation(preparation: Preparation) -> Preparer:
    """Return the preparer that a card names.

    Raises
    ------
    RecipeError
        If there is no such preparation, or its options do not fit.
    """
    factory: Callable[..., Any] = PREPARATIONS.load(preparation.method)
    try:
        preparer: Preparer = factory(**preparation.options)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"The preparation {preparation.method!r} can not use its options "
            f"{preparation.options}: {error}. Correct the model's card, or get its file again."
        ) from None
    return preparer


def preparation_in_words(preparation: Preparation) -> str:
    """Return what a preparation does, in sentences: of one that can not be opened, its name."""
    plain = (
        f"{preparation.method} {json.dumps(preparation.options)}"
        if preparation.options
        else (preparation.method)
    )
    try:
        words = getattr(open_preparation(preparation), "in_words", None)
    except UNetStudioError:
        return f"{plain} (can not be used here)"
    return plain if words is None else str(words())
