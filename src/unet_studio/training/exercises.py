"""An image to learn from: its pixels as the network sees them, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.images.sampling import measure_scaling
from unet_studio.inference.channels import map_channels

if TYPE_CHECKING:
    from unet_studio.images.normalisation import Scaling
    from unet_studio.images.volume import Volume
    from unet_studio.inference.channels import ChannelMap
    from unet_studio.models.card import ModelCard
    from unet_studio.training.annotations import Annotations
    from unet_studio.training.surroundings import Guess


# Where intensities are deviations from a mean, so much of them is taken for 0 to 1.
DEVIATIONS = (-2.0, 4.0)


@dataclass(frozen=True, eq=False)
class Exercise:
    """One annotated image.

    Attributes
    ----------
    volume : Volume
    annotations : Annotations
    channel_map : ChannelMap
    scaling : Scaling
        Measured on the whole image, as for a prediction.
    ndim : {2, 3}
        Spatial dimensions of the network; the axes before them are frames.
    guess : Guess or None
        What the surroundings of strokes are guessed, or were accepted, to be.
    stretched : bool
        Whether ``scaling`` stretches intensities to about 0 to 1; else it makes deviations
        from a mean of them.
    """

    volume: Volume
    annotations: Annotations
    channel_map: ChannelMap
    scaling: Scaling
    ndim: int
    guess: Guess | None = None
    stretched: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one frame, [Z] Y X."""
        return self.annotations.shape[-self.ndim :]

    def image(
        self, frame: Sequence[int], start: Sequence[int], stop: Sequence[int]
    ) -> NDArray[np.float32]:
        """Read a part of a frame as the network sees it.

        Parameters
        ----------
        frame : sequence of int
            Position along the axes before the network's.
        start, stop : sequence of int
            Within the frame, [Z] Y X.

        Returns
        -------
        array of float32, axes (C, [Z,] Y, X)
        """
        axes = self.annotations.axes
        region: dict[str, slice | int] = {a: int(i) for a, i in zip(axes, frame, strict=False)} | {
            a: slice(int(i), int(j))
            for a, i, j in zip(axes[-self.ndim :], start, stop, strict=True)
        }
        block = self.volume.read(region, self.channel_map.channels)
        return self.channel_map.expand(self.scaling.apply(self.channel_map.mix(block)))

    def photograph(
        self, frame: Sequence[int], start: Sequence[int], stop: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return a part of a frame with intensities of about 0 to 1, axes (C, [Z,] Y, X)."""
        image = self.image(frame, start, stop)
        low, high = DEVIATIONS
        return image if self.stretched else (image - low) / (high - low)

    def labels(
        self, frame: Sequence[int], start: Sequence[int], stop: Sequence[int]
    ) -> NDArray[np.int32]:
        """Return the labels of the same part, axes ([Z,] Y, X)."""
        block = self.annotations.block((*frame, *start), (*(i + 1 for i in frame), *stop))
        return block.reshape([int(b) - int(a) for a, b in zip(start, stop, strict=True)])

    def with_annotations(self, annotations: Annotations) -> Exercise:
        """Return the same image with other annotations."""
        return replace(self, annotations=annotations)


def open_exercise(
    volume: Volume,
    annotations: Annotations,
    card: ModelCard,
    channels: Sequence[int] | None = None,
    check: Callable[[], None] | None = None,
) -> Exercise:
    """Measure an image's intensities and join it with its annotations.

    Parameters
    ----------
    volume : Volume
    annotations : Annotations
        On this volume's grid.
    card : ModelCard
    channels : sequence of int, optional
    check : callable, optional
        Called between blocks that are read; may raise to stop.

    Raises
    ------
    AxesError
        If the image lacks an axis or channels that the model needs.
    ImageError
        If it can not be read.
    """
    from unet_studio.errors import AxesError

    if card.ndim == 3 and "Z" not in volume.axes:
        raise AxesError(
            f"The model {card.name!r} works in three dimensions, but {volume.name!r} (axes "
            f"{volume.axes.names}) has no depth axis. Choose a 2D model."
        )
    channel_map = map_channels(channels, card, volume.info)
    mix: Any = channel_map.mix
    scaling = measure_scaling(volume, channel_map.channels, card.normalisation, mix, check)
    stretched = card.normalisation.method == "percentile"
    return Exercise(volume, annotations, channel_map, scaling, card.ndim, stretched=stretched)
