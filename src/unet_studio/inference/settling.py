"""Settle what a network runs in, and say what a user should know of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unet_studio.events import Event, Started, Warned
from unet_studio.inference.choice import as_record, choose, slow_integers, trials_of

if TYPE_CHECKING:
    import torch

    from unet_studio.inference.plan import RunPlan
    from unet_studio.inference.trials import Numerics
    from unet_studio.models.model import Model


@dataclass(frozen=True)
class Settled:
    """What a network runs in.

    Attributes
    ----------
    numerics : Numerics
    trials : dict
        What was measured to choose that, for the run record.
    warnings : tuple of str
    """

    numerics: Numerics
    trials: dict[str, Any]
    warnings: tuple[str, ...]


def settle(
    model: Model,
    device: torch.device,
    plan: RunPlan,
    check: Callable[[], None] = lambda: None,
) -> Settled:
    """Choose what a network runs in.

    Parameters
    ----------
    model : Model
    device : torch.device
    plan : RunPlan
    check : callable
        Called between the runs of a trial; what it raises ends it.

    Raises
    ------
    BackendError
        If the recipe asks for a back end or for integers that can not run this model.
    """
    numerics = choose(model, device, plan.recipe, plan.network_pixels, check)
    trials = as_record(trials_of(model, str(device), plan.recipe))
    slow = slow_integers(plan.recipe, trials)
    return Settled(numerics, trials, (slow,) if slow else ())


def settle_steps(
    model: Model, device: torch.device, plan: RunPlan, check: Callable[[], None]
) -> Generator[Event, None, Settled]:
    """Do what :func:`settle` does, within the stage of predicting.

    Yields
    ------
    Event
        Started where it takes long, and Warned.
    """
    # Quantising takes some ten seconds; other trials a fraction of one most often.
    recipe = plan.recipe
    long = recipe.precision == "int8" and not trials_of(model, str(device), recipe)
    if long:
        yield Started("trying out 8-bit integers")
    settled = settle(model, device, plan, check)
    if long:
        yield Started("predicting", plan.tile_count)
    yield from (Warned(text) for text in settled.warnings)
    return settled
