"""One large image on many workers: tiles and blocks are the tasks.

The labels are those of one process. Whoever hands out the tasks reads and writes no pixels.
Results lie as files in a scratch folder beside the target, which all workers have to see:
each file is there whole or not at all, and no two tasks write the same, so a worker may die
at any moment. The labels appear at the end, as those of a run of one process do
(:mod:`unet_studio.streaming`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.batch.job import ItemResult, Job, Task
from unet_studio.batch.results import stream_targets
from unet_studio.batch.stages import failed, finish_streamed, open_item
from unet_studio.batch.workers import Source, TaskToken, device_here, loaded_model
from unet_studio.errors import Cancelled, SchedulerLost
from unet_studio.events import Event, Started, TileDone, Warned, drain
from unet_studio.images.atomic import scratch_folder
from unet_studio.inference.disk import shortage_of_disk
from unet_studio.streaming import checked_method, decision_of, object_block
from unet_studio.streaming_results import Places, StreamedSegmentation, write_stores

if TYPE_CHECKING:
    from unet_studio.axes import Axes
    from unet_studio.events import CancelToken
    from unet_studio.images.blocks import Each
    from unet_studio.inference.prediction import Prediction
    from unet_studio.inference.spread import Survey, TilePainter
    from unet_studio.models.model import Model
    from unet_studio.objects.intensities import PartSums
    from unet_studio.recipe import ObjectsMethod, Recipe

_here = threading.local()


@dataclass(frozen=True)
class ImageWork:
    """What every worker has to know of an image.

    Attributes
    ----------
    source : Source
    recipe : Recipe
    model_sha256 : str
    spread : bool
        As for :func:`unet_studio.batch.workers.device_here`.
    """

    source: Source
    recipe: Recipe
    model_sha256: str
    spread: bool

    def model(self) -> Model:
        """Return the model, loaded once per process."""
        return loaded_model(self.recipe.model, self.model_sha256)

    def device(self) -> str:
        """Return the device of this worker."""
        return device_here(self.recipe, self.spread)


def do_blocks(
    task: Task,
    job: Job,
    each: Each,
    token: CancelToken,
    *,
    spread: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> ItemResult | None:
    """Take one large item through all stages, by many.

    Parameters
    ----------
    task : Task
    job : Job
    each : callable
        Does a piece of work on each of many items, such as
        :meth:`unet_studio.batch.crew.Crew.each`.
    token : CancelToken
        Looked at where ``each`` does not.
    spread : bool
        As for :func:`unet_studio.batch.workers.device_here`.
    on_event : callable, optional

    Returns
    -------
    ItemResult or None
        None if there is nothing in the image to be shared out: it is for one process.

    Raises
    ------
    Cancelled
    """
    opened = open_item(task, job)
    if isinstance(opened, ItemResult):
        return opened
    source = Source(task.item.path, job.recipe.axes, task.item.series)
    work = ImageWork(source, job.recipe, job.model_sha256, spread)
    try:
        target, kept = stream_targets(task.target, opened.volume.metadata, job.probabilities)
        beside = task.target if task.inside is not None else None
        places = Places(task.inside or target, kept, beside, opened.key)
        steps = segment_by_blocks_steps(work, places, each, token)
        result = drain(steps, on_event)
        if result is None:
            return None
        result = _with_intensities(result, work, each)
        return finish_streamed(opened, job, result, target, kept)
    except (Cancelled, SchedulerLost):
        raise
    except Exception as error:
        return failed(task, error, opened.began)


def segment_by_blocks_steps(
    work: ImageWork, places: Places, each: Each, token: CancelToken
) -> Generator[Event, None, StreamedSegmentation | None]:
    """Do what :func:`unet_studio.streaming.segment_to_zarr_steps` does, by many.

    Parameters
    ----------
    work : ImageWork
    places : Places
    each : callable
    token : CancelToken

    Yields
    ------
    Event

    Returns
    -------
    StreamedSegmentation or None
        None if the image is constant: there is nothing to be shared out.
    """
    from unet_studio.inference.decision import Decision
    from unet_studio.objects.streamed import make_objects_spread, take_classes

    check = token.raise_if_cancelled
    places.check()
    yield Started("measuring intensities")
    wanted = places.probabilities is not None
    ((surveyed, method, notes),) = each(partial(survey_image, work), [wanted])
    if surveyed.constant:
        return None
    plan = surveyed.plan
    with scratch_folder(places.target) as scratch:
        decided = isinstance(surveyed.keep, Decision)
        if warning := shortage_of_disk(plan, scratch, classes=decided):
            yield Warned(warning)
        yield from (Warned(text) for text in (*surveyed.warnings, *notes))
        prediction = yield from _predict(work, surveyed, scratch / "tiles", each)
        shape = prediction.probabilities.shape
        labels: Any
        if prediction.kind == "classes":
            labels = prediction.probabilities
            made = yield from take_classes(
                prediction, method, block=object_block(shape, plan),
                measure=work.recipe.measure, check=check, each=each,
            )  # fmt: skip
        else:
            made, labels = yield from make_objects_spread(
                prediction, method, scratch / "objects", block=object_block(shape, plan),
                measure=work.recipe.measure, each=each,
            )  # fmt: skip
        made.warnings[:0] = notes
        return (
            yield from write_stores(
                prediction, made, labels, places, work.recipe.measure, check, each
            )
        )


def _predict(
    work: ImageWork, surveyed: Survey, folder: Path, each: Each
) -> Generator[Event, None, Prediction]:
    """Predict all tiles into a folder."""
    from unet_studio.inference.decision import Decision
    from unet_studio.inference.mosaic import Mosaic
    from unet_studio.inference.spread import mosaic_prediction

    folder.mkdir()
    began = time.perf_counter()
    plan = surveyed.plan
    yield Started("predicting", plan.tile_count)
    painted = []
    for done in each(partial(predict_tiles, work, surveyed, folder), range(surveyed.batches)):
        painted.append(done)
        yield TileDone(min(len(painted) * plan.batch, plan.tile_count), plan.tile_count)
    mosaic = Mosaic(folder, plan, classes=isinstance(surveyed.keep, Decision))
    seconds = time.perf_counter() - began
    return mosaic_prediction(mosaic, surveyed, work.model(), painted, seconds)


def survey_image(work: ImageWork, probabilities: bool) -> tuple[Survey, ObjectsMethod, list[str]]:
    """Settle how an image is done, on a worker.

    Parameters
    ----------
    work : ImageWork
    probabilities : bool
        Whether they are wanted, and not only what is made of them.
    """
    from unet_studio.inference.plan import resolve
    from unet_studio.inference.spread import survey

    volume, model = work.source.volume(), work.model()
    recipe = work.recipe.model_copy(update={"device": work.device()})
    plan = resolve(recipe, model.card, volume.info, streamed=True)
    method, notes = checked_method(recipe, plan)
    decision = None if probabilities else decision_of(method, plan)
    check = TaskToken().raise_if_cancelled
    surveyed = survey(volume, model, plan, decision or "probabilities", check)
    return surveyed, method, list(notes)


def predict_tiles(
    work: ImageWork, surveyed: Survey, folder: Path, number: int
) -> tuple[int, tuple[str, ...]]:
    """Predict a batch of tiles into a folder, on a worker."""
    known: tuple[str, TilePainter, TaskToken] | None = getattr(_here, "painter", None)
    if known is None or known[0] != str(folder):
        from unet_studio.inference.spread import TilePainter

        volume, model, token = work.source.volume(), work.model(), TaskToken()
        painter = TilePainter(volume, model, surveyed, work.device(), token)
        _here.painter = known = str(folder), painter, token
    _, painter, token = known
    token.take_up()
    return painter.paint(number, folder)


def _with_intensities(
    result: StreamedSegmentation, work: ImageWork, each: Each
) -> StreamedSegmentation:
    from unet_studio.objects.intensities import join_intensities, regions_of

    if not result.measurements:
        return result
    regions = regions_of(result.labels, result.axes)
    parts = each(partial(sum_part, work.source, (result.labels, result.axes)), regions)
    channels = work.source.volume().info.channels
    table = join_intensities(result.measurements, channels, parts)
    return replace(result, measurements=table)


def sum_part(
    source: Source, labelled: tuple[Any, Axes], region: dict[str, slice]
) -> PartSums | None:
    """Sum up the intensities of the objects in a region, on a worker."""
    from unet_studio.objects.intensities import sum_region

    labels, axes = labelled
    return sum_region(labels, axes, source.volume(), region)
