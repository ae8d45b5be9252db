"""From what the Segment tab shows to a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_studio.errors import RecipeError
from unet_studio.recipe import Recipe, Tiling

if TYPE_CHECKING:
    from unet_studio.gui.input_form import InputChoice
    from unet_studio.gui.model_header import ModelChoice
    from unet_studio.recipe import ObjectsMethod


def recipe_of(
    model: ModelChoice, choice: InputChoice, objects: ObjectsMethod, measure: bool, axes: str
) -> Recipe:
    """Return the recipe of a run on the chosen layer, whose axes are ``axes``."""
    return Recipe(
        model=_name_of(model),
        axes=axes,
        channels=choice.channels,
        tiling=Tiling(quality=choice.quality),
        flips=choice.flips,
        planes=choice.planes,
        precision="int8" if choice.integers else "auto",
        objects=objects,
        measure=measure,
        device=model.device,
    )


def recipe_for_others(
    model: ModelChoice, choice: InputChoice | None, objects: ObjectsMethod, measure: bool
) -> Recipe:
    """Return the recipe that does with other images what the tab does with its layer.

    Axes are in it only where the user had to choose them; files most often say it themselves.

    Raises
    ------
    RecipeError
        If several layers are the channels of one image, which no file can be.
    """
    if choice is None:
        return Recipe(model=_name_of(model), objects=objects, measure=measure, device=model.device)
    if choice.further:
        raise RecipeError(
            "The Segment tab takes several layers as the channels of one image. Other images have "
            "to hold all channels themselves: open one of them, and choose its channels there."
        )
    recipe = recipe_of(model, choice, objects, measure, choice.axes or "")
    return recipe.model_copy(update={"axes": choice.axes})


def _name_of(model: ModelChoice) -> str:
    entry = model.entry
    return entry.name if entry.origin != "file" else str(entry.path)
