"""Open the image of an item as the recipe says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_studio.axes import AmbiguousAxes

if TYPE_CHECKING:
    from unet_studio.batch.items import Item
    from unet_studio.images.volume import Volume


def open_image(item: Item, axes: str | None) -> Volume:
    """Open the image of an item; nothing is read of its pixels.

    Parameters
    ----------
    item : Item
    axes : str or None
        Those of the recipe.

    Raises
    ------
    UNetStudioError
        If it can not be opened.
    AmbiguousAxes
        If neither the file nor the recipe says what its axes are.
    """
    from unet_studio.images.readers import read_image

    try:
        return read_image(item.path, axes, series=item.series)
    except AmbiguousAxes as error:
        example = error.candidates[0]
        raise AmbiguousAxes(
            f'{error.question} Put axes = "{example}" at the top of the recipe (whichever it is).',
            error.candidates,
        ) from None
