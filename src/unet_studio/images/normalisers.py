"""Which normalisations there are, and whether one can be used as a recipe asks."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from unet_studio.errors import RecipeError
from unet_studio.recipe import Normalisation
from unet_studio.registry import Registry, perhaps


def check_normalisation(normalisation: Normalisation) -> None:
    """Refuse a normalisation whose method or options do not exist or are out of range.

    Needs no image, so that a wrong recipe is refused before anything is read.

    Raises
    ------
    RecipeError
        Naming the options that there are.
    """
    normaliser, options = NORMALISERS.load(normalisation.method), normalisation.options
    parameters = list(inspect.signature(normaliser).parameters.values())[1:]
    known = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    what = f"Its options are: {', '.join(known)}." if known else "It has no options."
    where = f"Normalisation {normalisation.method!r}"
    unknown = sorted(set(options) - set(known))
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        meant = "".join(perhaps(name, known) for name in unknown)
        raise RecipeError(f"{where} has no option {', '.join(map(repr, unknown))}. {what}{meant}")
    # An option per channel fits only so many channels; any other number of them is a
    # matter of the image.
    trial = np.tile(np.linspace(0, 1, 16), (_longest(options) or 1, 1))
    try:
        normaliser(trial, **options)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error} {what}") from None
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where} can not use these options: {error}. {what}") from None


def _longest(options: Any) -> int:
    """Return the length of the longest list of plain values in options, however deep."""
    values = options.values() if isinstance(options, dict) else options
    if not isinstance(options, dict | list | tuple):
        return 0
    if not isinstance(options, dict) and not any(isinstance(v, dict) for v in values):
        return len(options)
    return max((_longest(value) for value in values), default=0)


NORMALISERS: Registry[Any] = Registry(
    "normaliser",
    {
        "percentile": "unet_studio.images.normalisation:percentile_scaling",
        "zscore": "unet_studio.images.normalisation:zscore_scaling",
        "fixed": "unet_studio.images.normalisation:fixed_scaling",
        "steps": "unet_studio.images.steps:steps_scaling",
        "pretrained": "unet_studio.images.normalisation:pretrained_scaling",
    },
    entry_points="unet_studio.normalisers",
)
