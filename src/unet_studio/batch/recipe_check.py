"""What is wrong with a recipe, before any image is opened; without torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from unet_studio.errors import UNetStudioError

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.recipe import Recipe


def problems_of(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each setting that can not be used with any model or image, and why not.

    Names and options are looked up among those that there are. What depends on the model
    is a matter of :func:`check_fit`.

    Yields
    ------
    tuple of (tuple of str, str)
        The keys that lead to the setting, and what is wrong, without a full stop.
    """
    for place, check in (
        (("axes",), _check_axes),
        (("device",), _check_device),
        (("normalisation",), _check_normalisation),
        (("objects",), _check_objects),
    ):
        try:
            check(recipe)
        except UNetStudioError as error:
            yield place, str(error).removesuffix(".")


def check_fit(recipe: Recipe, card: ModelCard, *, through_disk: bool = False) -> None:
    """Refuse a recipe that would fail on every image, once and before anything is done.

    Parameters
    ----------
    recipe : Recipe
    card : ModelCard
        Of the recipe's model.
    through_disk : bool
        All images go through the disk, which not every objects method can do.

    Raises
    ------
    RecipeError
        If a name or an option does not exist, is out of range, or does not go with the model.
    """
    from unet_studio.images.normalisers import check_normalisation
    from unet_studio.inference.choice import planned_device
    from unet_studio.objects.blockwise import check_method
    from unet_studio.objects.run import fitting

    planned_device(recipe)
    check_normalisation(recipe.normalisation or card.normalisation)
    method = recipe.objects or card.default_objects
    fitting(method, card)
    if through_disk:
        check_method(method, card.representation)


def _check_axes(recipe: Recipe) -> None:
    from unet_studio.axes import Axes

    if recipe.axes:
        Axes(recipe.axes.upper().replace("S", "C"))  # samples, as TIFFs call colours


def _check_device(recipe: Recipe) -> None:
    from unet_studio.inference.devices import likely_device

    likely_device(recipe.device)


def _check_normalisation(recipe: Recipe) -> None:
    from unet_studio.images.normalisers import check_normalisation

    if recipe.normalisation is not None:
        check_normalisation(recipe.normalisation)


def _check_objects(recipe: Recipe) -> None:
    from unet_studio.objects.methods import parse_options

    if recipe.objects is not None:
        parse_options(recipe.objects)
