"""Models whose images are prepared in ways that the format has no words for.

Of such a model the package describes the bare network, which takes what has been
prepared. Its documentation says in words how to do that, and our own card in it says the
same to us: importing the package again restores the preparation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import Axes
from unet_studio.errors import ImageError, ModelError, RecipeError
from unet_studio.images.preparation import open_preparation, preparation_in_words
from unet_studio.models.card import ModelCard
from unet_studio.models.click_input import ClickInput
from unet_studio.models.seams import texture
from unet_studio.recipe import Normalisation

_COLOURS = 3


def takes_prepared(card: ModelCard) -> bool:
    """Whether a package's image is one that has been prepared, not one as it was recorded."""
    return card.preparation is not None or card.clicks is not None


def stated_normalisation(card: ModelCard) -> Normalisation:
    """Return what a package says is done to the intensities of its image.

    That of the card, but for models that answer clicks: what they are shown is scaled
    together with the clicks (:class:`~unet_studio.models.click_input.ClickInput`).
    """
    return card.normalisation if card.clicks is None else Normalisation(method="fixed")


def preparation_text(card: ModelCard) -> str:
    """Return how images are prepared, in sentences; empty if they are not."""
    if card.clicks is not None:
        return _clicks_in_words(card.clicks)
    return "" if card.preparation is None else preparation_in_words(card.preparation)


def prepared_example(card: ModelCard, given: NDArray[np.float32]) -> NDArray[np.float32]:
    """Prepare an image as a run does.

    Parameters
    ----------
    card : ModelCard
    given : array of float32, axes (C, [Z,] Y, X)

    Returns
    -------
    array of float32, axes (C, [Z,] Y, X)
        The image itself where nothing is prepared.

    Raises
    ------
    ModelError
        If the image can not be prepared.
    """
    if card.preparation is None:
        return given
    try:
        preparer = open_preparation(card.preparation)
        axes = Axes("ZYX"[-card.ndim :])
        return np.asarray(preparer.prepare(np.nan_to_num(given), axes).image, np.float32)
    except (RecipeError, ImageError) as error:
        raise ModelError(f"The example can not be prepared for {card.name!r}: {error}") from None


def made_up(card: ModelCard, edges: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a made-up image that the described network takes, axes (1, C, [Z,] Y, X)."""
    if card.clicks is not None:
        return _made_up_click(card.clicks, edges)
    made = texture(card.in_channels, edges).numpy()
    if card.preparation is not None:
        return np.asarray((made - made.mean()) / made.std(), np.float32)
    # As a camera would have it: positive, in some range of its own.
    return np.asarray(made * 40 + 200, np.float32).round()


def _made_up_click(clicks: ClickInput, edges: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a texture of 0 to 1, no mask yet, and one positive click in the middle."""
    picture = texture(_COLOURS, edges).numpy()[0]
    low, high = np.percentile(picture, [clicks.low, clicks.high])
    picture = ((picture - low) / (high - low)).clip(0, 1)
    rows, columns = np.ogrid[: edges[0], : edges[1]]
    distance = np.hypot(rows - edges[0] // 2, columns - edges[1] // 2)
    nothing = np.zeros(edges)
    stacked = np.stack([*picture, nothing, distance <= clicks.radius, nothing])
    return np.asarray(stacked[None], np.float32)


def _clicks_in_words(clicks: ClickInput) -> str:
    return (
        "The network answers clicks. Its six channels are those of a square crop around the "
        f"object, scaled to {clicks.edge} pixels: red, green and blue (grey three times), of "
        f"which the percentiles {clicks.low:g} and {clicks.high:g} over all pixels and channels "
        "of the crop become 0 and 1; the previous answer as probability, 0 at first; the positive "
        f"and the negative clicks as disks of 1 with a radius of {clicks.radius:g} pixels on 0."
    )
