"""What a network says about an image: probabilities, with all that is needed to use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unet_studio.axes import Axes
    from unet_studio.images.volume import VolumeInfo
    from unet_studio.models.card import ModelCard


@dataclass(frozen=True)
class Prediction:
    """Probabilities of a whole image.

    Attributes
    ----------
    probabilities : array of float16 (float32 for logits), axes ``[T] C [Z] Y X``
        Of classes: of uint8, without C.
        Range 0 to 1. C is the card's output channels: foreground (``binary``), one per
        class (``classes``), or foreground, boundary, distance (``objects``).
    axes : Axes
        Of ``probabilities``: canonical order, with C but for classes.
    card : ModelCard
    info : VolumeInfo
        The image this belongs to, in the image's own order of axes.
    record : dict
        The run record so far, ready for JSON.
    warnings : tuple of str
    kind : {"probabilities", "logits", "classes"}
        What ``probabilities`` really holds; objects are made of probabilities only.
    """

    probabilities: NDArray[np.floating[Any]]
    axes: Axes
    card: ModelCard
    info: VolumeInfo
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()
    kind: Literal["probabilities", "logits", "classes"] = "probabilities"
