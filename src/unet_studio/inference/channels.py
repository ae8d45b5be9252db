"""Which channels of an image a network gets, and in what form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.errors import AxesError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from unet_studio.images.volume import VolumeInfo
    from unet_studio.models.card import ModelCard

# ITU-R BT.601 luma.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class ChannelMap:
    """How image channels become network channels.

    Attributes
    ----------
    channels : tuple of int
        Channels to read, in this order.
    repeat : int
        Times that the one channel read is repeated (grey into a colour network).
    luma : bool
        Red, green and blue are read and mixed into one grey channel.
    """

    channels: tuple[int, ...]
    repeat: int = 1
    luma: bool = False

    def mix(self, block: NDArray[Any]) -> NDArray[Any]:
        """Mix colour into grey where asked for, before statistics and scaling.

        Parameters
        ----------
        block : array, axes (C, ...)
        """
        if not self.luma:
            return block
        return np.tensordot(LUMA, block.astype(np.float32), axes=(0, 0))[None]

    def expand(self, block: NDArray[Any]) -> NDArray[Any]:
        """Repeat the grey channel where asked for, after scaling."""
        return block if self.repeat == 1 else np.repeat(block, self.repeat, axis=0)


def map_channels(chosen: Sequence[int] | None, card: ModelCard, info: VolumeInfo) -> ChannelMap:
    """Decide which channels the network gets.

    Parameters
    ----------
    chosen : sequence of int or None
        The user's choice.
    card : ModelCard
    info : VolumeInfo

    Raises
    ------
    AxesError
        If the choice does not exist or does not fit, or a choice is needed.
    ModelError
        If the model answers clicks and nothing else.
    """
    if card.clicks is not None:
        raise ModelError(
            f"{card.name!r}: this model answers clicks; use Click (ClickSession in Python, "
            "`unet-studio click` on the command line), or choose another model."
        )
    present, needed = info.channels, card.in_channels
    if chosen is not None:
        return _check_choice(tuple(chosen), card, info)
    if card.colour:
        if info.rgb:
            return ChannelMap((0, 1, 2))
        if present == 1:
            return ChannelMap((0,), repeat=needed)
    elif present == needed:
        return ChannelMap(tuple(range(needed)))
    elif needed == 1 and info.rgb:
        return ChannelMap((0, 1, 2), luma=True)
    wanted = "1 (grey) or 3 (red, green, blue)" if card.colour else str(needed)
    if present < needed and not (card.colour and present == 1):
        advice = "Choose another model, or add the missing channels to the image."
    else:
        advice = f"Choose which: channels 0 to {present - 1} are there."
    raise AxesError(
        f"{info.name!r} has {present} channel{'s' * (present != 1)}, the model {card.name!r} "
        f"takes {wanted}. {advice}"
    )


def _check_choice(chosen: tuple[int, ...], card: ModelCard, info: VolumeInfo) -> ChannelMap:
    absent = [c for c in chosen if not 0 <= c < info.channels]
    if absent:
        raise AxesError(
            f"{info.name!r} has no channel {absent[0]}. Choose among its channels, which are 0 to "
            f"{info.channels - 1}."
        )
    if len(chosen) == card.in_channels:
        return ChannelMap(chosen)
    if card.colour and len(chosen) == 1:
        return ChannelMap(chosen, repeat=card.in_channels)
    if card.in_channels == 1 and info.rgb and chosen == (0, 1, 2):
        return ChannelMap(chosen, luma=True)
    wanted = "1 or 3 channels" if card.colour else f"{card.in_channels}"
    raise AxesError(
        f"{len(chosen)} channels were chosen of {info.name!r}, but the model {card.name!r} "
        f"takes {wanted}. Choose that many."
    )
