"""Recipes as TOML files that a person can read and edit."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from unet_studio.batch.recipe_check import check_fit, problems_of
from unet_studio.errors import RecipeError, UNetStudioError
from unet_studio.images.atomic import atomic_file
from unet_studio.recipe import Recipe
from unet_studio.user_paths import is_file, user_path

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERSION = 1
_HEADER = re.compile(r"\s*\[\s*(?P<name>[^\[\]]+?)\s*\]\s*(#.*)?$")
_KEY = re.compile(r"\s*(?P<name>[\w.\-\"' ]+?)\s*=")


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe from a TOML file.

    Every key but ``model`` has a default: ``model = "nuclei"`` is a whole recipe. A
    model file that lies beside the recipe may be named without its folder.

    Parameters
    ----------
    path : Path or str

    Returns
    -------
    Recipe

    Raises
    ------
    RecipeError
        If the file can not be read, is no TOML, or has a key or value that can not be
        used. The message names the file and, where it can be told, line and key.
    """
    path = user_path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RecipeError(
            f"The recipe {path} can not be read: {error.strerror or error}. Check the name."
        ) from None
    except UnicodeDecodeError:
        raise RecipeError(f"The recipe {path} is not text in UTF-8. Save it as such.") from None
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib raises its own for most, not for all
        raise RecipeError(f"The recipe {path} is not valid TOML: {error}. Correct it.") from None
    return _checked(values, text, path)


def check_recipe(path: Path | str) -> Recipe:
    """Read a recipe from a TOML file, and see whether it goes with its model.

    Parameters
    ----------
    path : Path or str

    Returns
    -------
    Recipe

    Raises
    ------
    RecipeError
        As :func:`load_recipe` does; and if there is no such model, or it does not go with
        the settings.
    """
    from unet_studio.models.sources import card_of

    recipe = load_recipe(path)
    try:
        card = card_of(recipe.model)
    except UNetStudioError as error:
        raise RecipeError(f"{path}: model: {error}") from error
    try:
        check_fit(recipe, card)
    except UNetStudioError as error:
        raise RecipeError(f"{path}: {error}") from error
    return recipe


def save_recipe(recipe: Recipe, path: Path | str) -> Path:
    """Write a recipe as TOML, whole or not at all; an older file is replaced.

    Only what differs from the defaults is written, so that a person sees what was chosen.

    Parameters
    ----------
    recipe : Recipe
        A model that is named by a relative path is written with its whole path.
    path : Path or str

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    RecipeError
        If a setting can not be written as TOML.
    """
    path = user_path(path)
    text = recipe_text(recipe)
    with atomic_file(path) as stream:
        stream.write(text.encode())
    return path


def recipe_text(recipe: Recipe, *, defaults: bool = False) -> str:
    """Return a recipe as TOML.

    Parameters
    ----------
    recipe : Recipe
    defaults : bool
        Write the defaults, too (but those that are "chosen for you", for which TOML
        has no word).

    Raises
    ------
    RecipeError
        If a setting can not be written as TOML.
    """
    import tomli_w

    values = recipe.model_dump(mode="json", exclude_defaults=not defaults, exclude_none=True)
    if is_file(recipe.model):
        values["model"] = str(Path(recipe.model).absolute())
    try:
        return tomli_w.dumps({"version": _VERSION, **_without_none(values)})
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"The recipe can not be written as TOML: {error}. Give its settings as numbers, texts "
            "and lists."
        ) from None


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }


def _checked(values: dict[str, Any], text: str, path: Path) -> Recipe:
    version = values.get("version", _VERSION)
    if version != _VERSION:
        where = _where(text, ("version",))
        raise RecipeError(
            f"The recipe {path}{where} has version {version!r}; this program reads version "
            f"{_VERSION}. Get a newer program, or save the recipe again."
        )
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        problems = list(map(_problem, error.errors()))
    else:
        problems = list(problems_of(recipe))
    if problems:
        said = "; ".join(f"{'.'.join(at)}{_where(text, at)}: {why}" for at, why in problems)
        raise RecipeError(
            f"{path}: the recipe has settings that can not be used. {said}. Correct it."
        )
    beside = path.parent / recipe.model
    if not Path(recipe.model).is_absolute() and is_file(beside):
        recipe = recipe.model_copy(update={"model": str(beside)})
    return recipe


def _problem(problem: Any) -> tuple[tuple[str, ...], str]:
    """Return where a setting is that pydantic refused, and what is wrong with it."""
    place = tuple(str(part) for part in problem["loc"])
    message = str(problem["msg"])
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(place[-1], _known(place[:-1]), 1)
        message = "there is no such key" + (f" (perhaps {near[0]!r} is meant)" if near else "")
    elif problem["type"] == "missing":
        message = "has to be given"
    elif problem["type"] == "tuple_type":
        message = "has to be a list, such as [0] or [0, 1]"
    return place, message


def _known(place: Sequence[str]) -> list[str]:
    """Return the keys that a table of the recipe may have."""
    from unet_studio.recipe import Linking, Normalisation, ObjectsMethod, Tiling

    tables: dict[tuple[str, ...], Any] = {
        (): Recipe,
        ("tiling",): Tiling,
        ("normalisation",): Normalisation,
        ("objects",): ObjectsMethod,
        ("objects", "link"): Linking,
    }
    table = tables.get(tuple(place))
    return list(table.model_fields) if table else []


def _where(text: str, place: Sequence[str]) -> str:
    """Return " (line N)" of a key, or nothing where it can not be told."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _plain(header["name"])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(".".join(filter(None, (table, _plain(key["name"])))), number)
    for length in range(len(place), 0, -1):
        if number_ := lines.get(".".join(place[:length])):
            return f" (line {number_})"
    return ""


def _plain(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))
