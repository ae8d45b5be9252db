"""What a batch would read and write, image by image, before anything is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unet_studio.batch.recipe_check import check_fit
from unet_studio.errors import UNetStudioError

if TYPE_CHECKING:
    from unet_studio.batch.job import Task
    from unet_studio.models.card import ModelCard
    from unet_studio.recipe import Recipe


@dataclass(frozen=True)
class Preview:
    """What is known of one image before it is done.

    Attributes
    ----------
    name, path : str
    series : int
    target : str
        Where its labels would go.
    words : str
        What it is: "Y 512 x X 512, uint8, channels 0".
    there : bool
        A result is there already, of this recipe or another.
    problem : str
        Why it can not be done; empty if it can.
    """

    name: str
    path: str
    series: int
    target: str
    words: str = ""
    there: bool = False
    problem: str = ""


def look_at(tasks: Iterable[Task], recipe: Recipe, card: ModelCard) -> Iterator[Preview]:
    """Open each image, without reading its pixels, and see whether the recipe fits.

    Raises
    ------
    RecipeError
        If the recipe fits no image at all.
    """
    check_fit(recipe, card)
    for task in tasks:
        yield _look_at(task, recipe, card)


def _look_at(task: Task, recipe: Recipe, card: ModelCard) -> Preview:
    from unet_studio.batch.inside import check_inside
    from unet_studio.batch.job import finished_record
    from unet_studio.images.readers import read_image
    from unet_studio.inference.plan import resolve

    item, labels = task.item, str(task.inside or task.target)
    try:
        info = read_image(item.path, recipe.axes, series=item.series).info
        plan = resolve(recipe, card, info)
        if task.inside is not None:
            check_inside(task.inside)
    except UNetStudioError as error:
        return Preview(item.name, str(item.path), item.series, labels, problem=str(error))
    shape = " x ".join(f"{a} {n}" for a, n in zip(info.axes.names, info.shape, strict=True))
    words = f"{shape}, {info.dtype}, channels {', '.join(map(str, plan.channels))}"
    there = finished_record(task.target, inside=task.inside) is not None
    return Preview(item.name, str(item.path), item.series, labels, words, there)
