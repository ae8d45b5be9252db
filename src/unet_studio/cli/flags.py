"""From what was typed to a recipe: the flags that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.axes import Axes
from unet_studio.errors import RecipeError
from unet_studio.recipe import Recipe, parse_recipe

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard


def recipe_of(
    model: str,
    axes: str | None,
    channels: str | None,
    device: str,
    tile: int | None,
    method: str | None,
    options: list[str] | None,
    linking: dict[str, Any] | None,
    quality: str,
    precision: str,
    flips: bool,
) -> Recipe:
    """Return the recipe that a command line asks for.

    Parameters are the flags of ``unet-studio segment``, as typed.

    Raises
    ------
    RecipeError, ModelError
        If a flag can not be used, before any work is done.
    """
    if axes is not None:
        axes = Axes(axes).names  # wrong letters are refused before any work
    values: dict[str, Any] = {
        "model": model,
        "axes": axes,
        "device": device,
        "precision": precision,
        "flips": flips,
        "tiling": {"quality": quality, "tile": tile},
    }
    if channels is not None:
        try:
            values["channels"] = tuple(int(c) for c in channels.split(","))
        except ValueError:
            raise RecipeError(
                f"--channels {channels!r} is not a list of numbers; write 0 or 0,1,2."
            ) from None
    if method is not None or options or linking is not None:
        values["objects"] = _objects_values(method, options or [], _card(model))
        if linking is not None:
            values["objects"]["link"] = linking
    elif _is_name(model):
        _card(model)  # a missing model is said before torch is imported
    return parse_recipe(values)


def linking_of(
    link: bool, min_overlap: float | None, max_gap: int | None
) -> dict[str, Any] | None:
    """Return the recipe's values; either of the two options asks for linking, too."""
    given = {"min_overlap": min_overlap, "max_gap": max_gap}
    values = {name: value for name, value in given.items() if value is not None}
    return values if link or values else None


def _is_name(model: str) -> bool:
    """Whether a model is named or a path, and not a source such as "random:unet"."""
    return ":" not in model or Path(model).exists()


def _card(model: str) -> ModelCard:
    if _is_name(model):
        from unet_studio.models.store import find_model

        return find_model(model).card
    from unet_studio.models.model import load_model

    return load_model(model).card


def _objects_values(method: str | None, options: list[str], card: ModelCard) -> dict[str, Any]:
    from unet_studio.objects.methods import parse_options
    from unet_studio.recipe import ObjectsMethod

    own = card.default_objects
    given: dict[str, Any] = dict(own.options) if method in (None, own.method) else {}
    method = method or own.method
    for text in options:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"--set {text!r} should read NAME=VALUE, such as min_size=30.")
        given[key.strip()] = value.strip()
    # Text becomes numbers here, and a wrong name or value is refused before any work.
    parsed = parse_options(ObjectsMethod(method=method, options=given))
    return {"method": method, "options": parsed.model_dump(mode="json"), "link": own.link}
