"""The stages that an item goes through: read, predict, finish."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.batch.inside import check_inside, list_labels
from unet_studio.batch.job import ItemResult as Result
from unet_studio.batch.job import Job, Task, ToSplit, finished_record
from unet_studio.batch.keys import item_key, recipe_key
from unet_studio.batch.opening import open_image
from unet_studio.batch.results import (
    OVERLAY,
    Made,
    Picture,
    explain,
    stream_targets,
    with_intensities,
    words_of,
    write_results,
    write_tables,
)
from unet_studio.errors import Cancelled
from unet_studio.events import CancelToken, Event, drain

if TYPE_CHECKING:
    from pathlib import Path

    from unet_studio.images.volume import Volume
    from unet_studio.inference.prediction import Prediction
    from unet_studio.models.model import Model
    from unet_studio.streaming_results import StreamedSegmentation

# Smaller images are read ahead whole; larger ones tile by tile, as always.
_READ_AHEAD_BYTES = 256 * 2**20
# Beyond this forecast an item is finished before the next one is predicted.
_OVERLAP_BYTES = 2**30


@dataclass(frozen=True)
class Opened:
    """An image that is ready to be predicted."""

    task: Task
    volume: Volume
    key: str
    began: float


@dataclass(frozen=True)
class Predicted:
    """Probabilities that wait for the objects step, and whether it should run at once."""

    opened: Opened
    prediction: Prediction
    large: bool


def failed(task: Task, error: Exception, began: float) -> Result:
    """Return the result of an item that could not be done."""
    seconds = round(time.perf_counter() - began, 3)
    return Result(
        task.item.name, "failed", seconds=seconds, reason=explain(error), **_source(task)
    )


def open_item(task: Task, job: Job) -> Opened | Result:
    """Read an image, unless its result is complete already."""
    began = time.perf_counter()
    try:
        volume = open_image(task.item, job.recipe.axes)
        key = item_key(job, task.item, volume.info)
        if not job.redo and (finished := finished_record(task.target, key, inside=task.inside)):
            return _skipped(task, job, *finished)
        if task.inside is not None:
            check_inside(task.inside)
        size = np.prod(volume.info.shape, dtype=float) * volume.info.dtype.itemsize
        if size <= _READ_AHEAD_BYTES and not job.through_disk and not _is_large(volume, job):
            volume = volume.in_memory()
        return Opened(task, volume, key, began)
    except Exception as error:  # whatever is wrong with one image, the others are done
        return failed(task, error, began)


def _skipped(task: Task, job: Job, labels: Path, record: dict[str, Any]) -> Result:
    """Return the result of an item that is complete, but perhaps for its picture."""
    if job.overlays:
        from unet_studio.batch.overlays import complete_overlay

        record = complete_overlay(task, job.recipe.axes, labels, record)
    return finished_result(task, labels, record)


def finished_result(task: Task, labels: Path, record: dict[str, Any]) -> Result:
    """Return what :func:`~unet_studio.batch.job.finished_record` found as a result."""
    batch = record["batch"]
    files = [task.target.parent / str(name) for name in record["outputs"]]
    sizes = batch.get("sizes")
    table, overlay = _places(files)
    return Result(
        task.item.name,
        "skipped",
        str(labels),
        str(batch.get("found", "")),
        int(record.get("objects", {}).get("count", 0)),
        table=table,
        overlay=overlay,
        sizes=tuple(sizes) if sizes else None,
        unit=str(batch.get("unit", "")),
        **_source(task),
    )


def predict_item(
    opened: Opened,
    job: Job,
    model: Model,
    token: CancelToken,
    on_event: Callable[[Event], None] | None = None,
) -> Predicted | Result:
    """Run the network. What does not fit into memory is done to its end, through the disk."""
    from unet_studio.inference.plan import resolve
    from unet_studio.inference.predictor import predict_steps

    try:
        plan = resolve(job.recipe, model.card, opened.volume.info)
        if job.through_disk or plan.needs_streaming:
            return _streamed(opened, job, model, token, on_event)
        steps = predict_steps(opened.volume, model, plan, token=token)
        return Predicted(opened, drain(steps, on_event), plan.memory_bytes > _OVERLAP_BYTES)
    except Cancelled:
        raise
    except Exception as error:
        return failed(opened.task, error, opened.began)


def _streamed(
    opened: Opened,
    job: Job,
    model: Model,
    token: CancelToken,
    on_event: Callable[[Event], None] | None,
) -> Result:
    from unet_studio.streaming import segment_to_zarr_steps

    task, volume = opened.task, opened.volume
    target, kept = stream_targets(task.target, volume.metadata, job.probabilities)
    labels = task.inside or target
    steps = segment_to_zarr_steps(
        volume, job.recipe, labels, model=model, token=token, probabilities=kept,
        beside=task.target if task.inside is not None else None, key=opened.key,
    )  # fmt: skip
    result = drain(steps, on_event)
    result = with_intensities(result, volume, token.raise_if_cancelled)
    return finish_streamed(opened, job, result, target, kept)


def finish_streamed(
    opened: Opened, job: Job, result: StreamedSegmentation, target: Path, kept: Path | None
) -> Result:
    """Write what goes beside the labels of a streamed run.

    Parameters
    ----------
    opened : Opened
    job : Job
    result : StreamedSegmentation
        With its intensities.
    target, kept : Path
        As :func:`~unet_studio.batch.results.stream_targets` returned them.
    """
    task = opened.task
    labels = task.inside or target
    if task.inside is not None:
        list_labels(task.inside)
    after = task.target if task.inside is not None else target
    files = write_tables(
        result, after, task.item.path, labels, kept, _picture(opened, job, result),
        _extra(opened, job, result),
    )  # fmt: skip
    return _done(opened, files, result)


def finish_item(predicted: Predicted, job: Job, token: CancelToken) -> Result:
    """Make objects of the probabilities, and write all results.

    Raises
    ------
    Cancelled
        If the token was set before anything was written.
    """
    from unet_studio.pipeline import relabel

    opened = predicted.opened
    task = opened.task
    try:
        result = relabel(
            predicted.prediction, job.recipe.objects, measure=job.recipe.measure, token=token
        )
        result = with_intensities(result, opened.volume, token.raise_if_cancelled)
        files = write_results(
            result, task.target, opened.volume.metadata, task.item.path,
            probabilities=job.probabilities, inside=task.inside, key=opened.key,
            overlay=_picture(opened, job, result), extra=_extra(opened, job, result),
        )  # fmt: skip
        return _done(opened, files, result)
    except Cancelled:
        raise
    except Exception as error:
        return failed(task, error, opened.began)


def do_item(task: Task, job: Job, model: Model, token: CancelToken) -> Result | ToSplit:
    """Take one item through all stages, one after the other, unless it is to be split."""
    opened = open_item(task, job)
    if isinstance(opened, Result):
        return opened
    try:
        if _is_large(opened.volume, job) and _can_split(opened, job, model):
            return ToSplit(task)
    except Exception as error:
        return failed(task, error, opened.began)
    predicted = predict_item(opened, job, model, token)
    return predicted if isinstance(predicted, Result) else finish_item(predicted, job, token)


def _is_large(volume: Volume, job: Job) -> bool:
    voxels = math.prod(volume.info.length(a) for a in "TZYX")
    return 0 < job.split_above < voxels


def _can_split(opened: Opened, job: Job, model: Model) -> bool:
    """Whether an image can be shared out to many, with the result of one.

    Not if tiles are averaged or the image is prepared as a whole, if objects are linked
    through time, or if the result of one would be no OME-Zarr.
    """
    from unet_studio.inference.plan import resolve
    from unet_studio.inference.spread import can_spread
    from unet_studio.streaming import checked_method

    task = opened.task
    plan = resolve(job.recipe, model.card, opened.volume.info)
    if not can_spread(plan):
        return False
    same = task.inside is not None or task.target.name.endswith(".ome.zarr")
    if not (same or job.through_disk or plan.needs_streaming):
        return False
    return checked_method(job.recipe, plan)[0].link is None


def _picture(opened: Opened, job: Job, result: Made) -> Picture | None:
    if not job.overlays:
        return None
    from unet_studio.batch.overlays import write_overlay

    channels = result.record.get("recipe", {}).get("channels") or job.recipe.channels
    return lambda path: write_overlay(path, opened.volume, result.labels, result.axes, channels)


def _extra(opened: Opened, job: Job, result: Made) -> dict[str, Any]:
    item = opened.task.item
    sizes, unit = _sizes(result)
    return {
        "batch": {
            "key": opened.key,
            "recipe_key": recipe_key(job),
            "item": item.name,
            "series": item.series,
            "found": words_of(result),
            "sizes": sizes,
            "unit": unit,
        }
    }


def _sizes(result: Made) -> tuple[tuple[float, float, float] | None, str]:
    """Return quartiles of the sizes of the objects, and in what they are measured."""
    from unet_studio.objects.measurements import units

    table = result.measurements
    name = next((n for n in ("area", "volume") if len(table.get(n, ()))), None)
    if name is None:
        return None, ""
    low, middle, high = np.percentile(table[name], (25, 50, 75)).tolist()
    unit = units(result.axes).get(name)
    return (low, middle, high), f"{name} [{unit}]" if unit else name


def _done(opened: Opened, files: Sequence[Path], result: Made) -> Result:
    sizes, unit = _sizes(result)
    table, overlay = _places(files)
    return Result(
        opened.task.item.name,
        "done",
        str(files[0]),
        words_of(result),
        result.object_count,
        round(time.perf_counter() - opened.began, 3),
        table=table,
        overlay=overlay,
        sizes=sizes,
        unit=unit,
        **_source(opened.task),
    )


def _source(task: Task) -> dict[str, Any]:
    return {"path": str(task.item.path), "series": task.item.series}


def _places(files: Sequence[Path]) -> tuple[str, str]:
    """Return which of the files of a result are its table and its picture, if they are there."""
    ends = ("_objects.csv", f"_{OVERLAY}.png")
    found = ((f for f in files if f.name.endswith(end) and f.is_file()) for end in ends)
    table, overlay = (str(next(files_, "")) for files_ in found)
    return table, overlay
