"""What a batch would read and write, image by image, before anything is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unet_studio.batch.recipe_check import check_fit

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
    labels, table, overlay, objects, sizes, unit
        Of the result that is there, as in :class:`~unet_studio.batch.job.ItemResult`.
    """

    name: str
    path: str
    series: int
    target: str
    words: str = ""
    there: bool = False
    problem: str = ""
    labels: str = ""
    table: str = ""
    overlay: str = ""
    objects: int = 0
    sizes: tuple[float, float, float] | None = None
    unit: str = ""


def look_at(tasks: Iterable[Task], recipe: Recipe, card: ModelCard) -> Iterator[Preview]:
    """Open each image, without reading its pixels, and see whether the recipe fits.

    Raises
    ------
    RecipeError
        If the recipe fits no image at all.
    """
    check_fit(recipe, card)
    for task in tasks:
        yield _with_result(_look_at(task, recipe, card), task)


def _look_at(task: Task, recipe: Recipe, card: ModelCard) -> Preview:
    from unet_studio.batch.inside import check_inside
    from unet_studio.batch.opening import open_image
    from unet_studio.batch.results import explain
    from unet_studio.inference.plan import resolve

    item, labels = task.item, str(task.inside or task.target)
    try:
        info = open_image(item, recipe.axes).info
        plan = resolve(recipe, card, info)
        if task.inside is not None:
            check_inside(task.inside)
    except Exception as error:  # whatever is wrong with one image, the others are shown
        return Preview(item.name, str(item.path), item.series, labels, problem=explain(error))
    shape = " x ".join(f"{a} {n}" for a, n in zip(info.axes.names, info.shape, strict=True))
    words = f"{shape}, {info.dtype}, channels {', '.join(map(str, plan.channels))}"
    return Preview(item.name, str(item.path), item.series, labels, words)


def _with_result(preview: Preview, task: Task) -> Preview:
    """Add what is there already: it can be looked at, whatever the recipe is now."""
    from unet_studio.batch.job import finished_record
    from unet_studio.batch.stages import finished_result

    finished = finished_record(task.target, inside=task.inside)
    if finished is None:
        return preview
    result = finished_result(task, *finished)
    return replace(
        preview, there=not preview.problem, labels=result.labels, table=result.table,
        overlay=result.overlay, objects=result.objects, sizes=result.sizes, unit=result.unit,
    )  # fmt: skip
