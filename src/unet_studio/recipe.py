"""A recipe: everything that decides what a run computes, as one frozen value.

The window, the command line, batches and replays all run recipes; the run
record stores one with each result.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from unet_studio.errors import RecipeError


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Normalisation(_Frozen):
    """How intensities are brought into the network's range.

    ``method`` is a name in :data:`unet_studio.images.normalisation.NORMALISERS`,
    ``options`` are its keyword arguments.
    """

    method: str = "percentile"
    options: dict[str, Any] = Field(default_factory=dict)


class ObjectsMethod(_Frozen):
    """How probabilities become labels.

    ``method`` is a name in :data:`unet_studio.objects.methods.METHODS`,
    ``options`` are the fields of that method's options class.
    """

    method: str
    options: dict[str, Any] = Field(default_factory=dict)


class Tiling(_Frozen):
    """How an image is cut. None lets the planner choose.

    Attributes
    ----------
    tile : int or None
        Edge of the square (cubic) tiles that are read, halo included, in pixels.
    halo : int or None
        Context around a tile's kept core, in pixels. Less than the network's
        receptive-field radius gives visible seams.
    batch : int or None
        Tiles per forward pass.
    """

    tile: int | None = Field(default=None, ge=16)
    halo: int | None = Field(default=None, ge=0)
    batch: int | None = Field(default=None, ge=1, le=256)


class Recipe(_Frozen):
    """What to run: model, input, tiling, and what to make of the probabilities.

    Attributes
    ----------
    model : str
        Name of a model in the store, or path of a model file.
    axes : str or None
        Axes of the input where they can not be read from it ("ZYX").
    channels : tuple of int or None
        Channels to feed to the network, in its order. None is allowed where
        there is only one way to do it.
    normalisation : Normalisation or None
        None takes the model's own.
    objects : ObjectsMethod or None
        None takes the model's own.
    measure : bool
        Measure size and position of each object.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    """

    model: str
    axes: str | None = None
    channels: tuple[int, ...] | None = None
    normalisation: Normalisation | None = None
    tiling: Tiling = Tiling()
    objects: ObjectsMethod | None = None
    measure: bool = True
    device: str = "auto"
    version: Literal[1] = 1


def parse_recipe(values: dict[str, Any]) -> Recipe:
    """Build a recipe from plain values, such as those of a TOML file.

    Raises
    ------
    RecipeError
        If a key is unknown or a value out of range; the message names each.
    """
    from pydantic import ValidationError

    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        raise RecipeError(f"The recipe has settings that can not be used. {problems}.") from None
