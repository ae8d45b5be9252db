"""From what was typed to a recipe: the flags that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.axes import Axes
from unet_studio.errors import RecipeError
from unet_studio.models.sources import card_of, is_name
from unet_studio.recipe import Recipe, parse_recipe

if TYPE_CHECKING:
    import typer

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
    flips: bool | None,
    planes: str = "xy",
    backend: str = "auto",
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
        "backend": backend,
        "precision": precision,
        "flips": flips,
        "planes": planes,
        "tiling": {"quality": quality, "tile": tile},
    }
    if channels is not None:
        values["channels"] = channel_numbers(channels)
    if method is not None or options or linking is not None:
        values["objects"] = _objects_values(method, options or [], card_of(model))
        if linking is not None:
            values["objects"]["link"] = linking
    elif is_name(model):
        card_of(model)  # a missing model is said before torch is imported
    return parse_recipe(values)


def channel_numbers(channels: str | None) -> tuple[int, ...] | None:
    """Return the channels that were typed; None if none were.

    Raises
    ------
    RecipeError
        If it is no list of numbers.
    """
    if channels is None:
        return None
    try:
        return tuple(int(c) for c in channels.split(","))
    except ValueError:
        raise RecipeError(
            f"--channels {channels!r} is not a list of numbers; write 0 or 0,1,2."
        ) from None


def named_values(texts: list[str], example: str = "") -> dict[str, str]:
    """Return what was typed as ``--set NAME=VALUE``, by name.

    Raises
    ------
    RecipeError
        If a text has no "=".
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            such = f", {example}" if example else ""
            raise RecipeError(f"--set {text!r} should read NAME=VALUE{such}.")
        values[name.strip()] = value.strip()
    return values


def linking_of(
    link: bool, min_overlap: float | None, max_gap: int | None
) -> dict[str, Any] | None:
    """Return the recipe's values; either of the two options asks for linking, too."""
    given = {"min_overlap": min_overlap, "max_gap": max_gap}
    values = {name: value for name, value in given.items() if value is not None}
    return values if link or values else None


# Flags of ``segment`` that say where and what to write, and not how to segment.
_NOT_OF_A_RECIPE = (
    "images", "as_channels", "output", "device", "through_disk", "probabilities", "recipe_file",
    "save_recipe",
)  # fmt: skip


def given_flags(context: typer.Context) -> frozenset[str]:
    """Return the names of the parameters that were typed."""
    return frozenset(
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    )


def recipe_from(path: Path, given: frozenset[str], device: str) -> Recipe:
    """Return the recipe of a file; only the device may be given beside it.

    Raises
    ------
    RecipeError
        If the file can not be used, or a flag contradicts it.
    """
    from unet_studio.batch.recipe_file import load_recipe

    if others := sorted(given.difference(_NOT_OF_A_RECIPE)):
        named = ", ".join("--" + name.replace("_", "-") for name in others)
        raise RecipeError(
            f"{named} and --recipe can not be given together. Write it into {path}, or leave "
            "--recipe out."
        )
    recipe = load_recipe(path)
    card_of(recipe.model)  # a missing model is said before torch is imported
    return recipe.model_copy(update={"device": device}) if "device" in given else recipe


def _objects_values(method: str | None, options: list[str], card: ModelCard) -> dict[str, Any]:
    from unet_studio.objects.methods import parse_options
    from unet_studio.recipe import ObjectsMethod

    own = card.default_objects
    given: dict[str, Any] = dict(own.options) if method in (None, own.method) else {}
    method = method or own.method
    given |= named_values(options, "such as min_size=30")
    # Text becomes numbers here, and a wrong name or value is refused before any work.
    parsed = parse_options(ObjectsMethod(method=method, options=given))
    return {"method": method, "options": parsed.model_dump(mode="json"), "link": own.link}
