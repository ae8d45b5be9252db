"""Label a prediction that lies on the disk, frame by frame, into an array on the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.events import Event, Started, TileDone, Warned, steps_done
from unet_studio.images.frame import Frame
from unet_studio.objects.blockwise import label_blocks
from unet_studio.objects.frames import frame_counted
from unet_studio.objects.grid import Grid
from unet_studio.objects.linking import Linker, Tracks
from unet_studio.objects.measurements import Counted, measure_classes
from unet_studio.objects.methods import METHODS
from unet_studio.objects.spread import FrameWork, label_spread
from unet_studio.objects.spread_labels import StackedLabels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from unet_studio.images.blocks import Each
    from unet_studio.inference.prediction import Prediction
    from unet_studio.recipe import ObjectsMethod

    Table = dict[str, NDArray[Any]]


@dataclass
class MadeObjects:
    """What came of the objects step.

    Attributes
    ----------
    method : ObjectsMethod
        With every option written out.
    makes_objects : bool
        Whether the labels are objects; otherwise they are classes.
    seconds : float
    count : int
        Number of objects, linked ones once; or the highest class found.
    tables : list of dict of array
        The measurements of each frame, empty if nothing was measured.
    warnings : list of str
    tracks : Tracks or None
        What became of each object, if they were linked through time.
    """

    method: ObjectsMethod
    makes_objects: bool
    seconds: float = 0.0
    count: int = 0
    tables: list[Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tracks: Tracks | None = None


def make_objects(
    prediction: Prediction,
    method: ObjectsMethod,
    output: Any,
    known: Any,
    *,
    block: tuple[int, ...],
    measure: bool,
    check: Callable[[], None],
) -> Generator[Event, None, MadeObjects]:
    """Label every frame of a prediction, block by block.

    Parameters
    ----------
    prediction : Prediction
        Its probabilities may be a Zarr array.
    method : ObjectsMethod
        With every option written out. With ``link`` there has to be a time axis, and
        the method has to make objects.
    output : Zarr array of int, axes ([T,] [Z,] Y, X), all 0
        Holds the labels afterwards.
    known : Zarr array of int, axes ([Z,] Y, X), all 0, or None
        To be worked in where objects are linked: see
        :class:`~unet_studio.objects.linking.Linker`.
    block : tuple of int
        As for :func:`~unet_studio.objects.blockwise.label_blocks`.
    measure : bool
    check : callable
        Called before each step; may raise to stop.

    Yields
    ------
    Event

    Returns
    -------
    MadeObjects
        The labels are those of :func:`~unet_studio.objects.run.run_objects`.
    """
    made = MadeObjects(method, METHODS.load(method.method).makes_objects)
    began = time.perf_counter()
    frames, spatial = _frames(prediction), prediction.axes.select(prediction.axes.spatial)
    linker = None
    if method.link is not None:
        grid = Grid(tuple(known.shape), block)
        linker = Linker(method.link, known, list(grid.blocks()))
    yield Started("making objects")
    for number, frame in enumerate(frames):
        labels = Frame(output, frame)
        offset = made.count if made.makes_objects and linker is None else 0
        steps = label_blocks(
            Frame(prediction.probabilities, frame),
            labels,
            method,
            prediction.card.representation,
            block=block,
            offset=offset,
            check=check,
        )
        result = yield from steps_done(frame_counted(steps, number, len(frames)))
        ids = np.arange(1, result.count + 1) + offset
        if linker is not None:
            ids = linker.link(labels, result.count, check)
        if made.makes_objects:
            made.count = max(made.count, int(ids.max(initial=0)))
        else:
            made.count = max(made.count, result.count)
        if measure:
            if made.makes_objects:
                found = Counted(ids, result.sizes, result.centroids, result.boxes)
                table = found.renumbered(ids).table(spatial)
            else:
                regions = Grid(labels.shape, block).blocks(check)
                table = measure_classes(labels, regions, spatial)
            made.tables.append(_with_frame(table, frame))
        for warning in result.warnings:
            made.warnings.append(warning)
            yield Warned(warning)
    made.tracks = linker.tracks() if linker is not None else None
    made.seconds = time.perf_counter() - began
    return made


def make_objects_spread(
    prediction: Prediction,
    method: ObjectsMethod,
    folder: Path,
    *,
    block: tuple[int, ...],
    measure: bool,
    each: Each,
) -> Generator[Event, None, tuple[MadeObjects, Any]]:
    """Do what :func:`make_objects` does, by many, and without linking.

    Parameters
    ----------
    prediction, method, block, measure
        As for :func:`make_objects`; the prediction has to be one that can travel.
    folder : Path
        Empty; everybody who helps has to see it.
    each : callable
        Does a piece of work on each of many items.

    Yields
    ------
    Event

    Returns
    -------
    MadeObjects
    array-like of uint32, axes ([T,] [Z,] Y, X)
        The labels, as long as the folder is there.
    """
    made = MadeObjects(method, METHODS.load(method.method).makes_objects)
    began = time.perf_counter()
    frames, spatial = _frames(prediction), prediction.axes.select(prediction.axes.spatial)
    painted = []
    yield Started("making objects")
    for number, frame in enumerate(frames):
        place = folder / str(number)
        place.mkdir(parents=True)
        probabilities = Frame(prediction.probabilities, frame)
        work = FrameWork(probabilities, method, prediction.card.representation, block, place)
        offset = made.count if made.makes_objects else 0
        steps = label_spread(work, each, offset=offset)
        result, labels = yield from steps_done(frame_counted(steps, number, len(frames)))
        painted.append(labels)
        if made.makes_objects:
            made.count = offset + result.count
            ids = np.arange(1, result.count + 1) + offset
            table = Counted(ids, result.sizes, result.centroids, result.boxes).table(spatial)
        else:
            regions = Grid(work.shape, block).blocks()
            table = measure_classes(labels, regions, spatial, each=each)
            made.count = max(made.count, int(table["label"].max(initial=0)))
        if measure:
            made.tables.append(_with_frame(table, frame))
        for warning in result.warnings:
            made.warnings.append(warning)
            yield Warned(warning)
    made.seconds = time.perf_counter() - began
    return made, painted[0] if frames == [None] else StackedLabels(tuple(painted))


def take_classes(
    prediction: Prediction,
    method: ObjectsMethod,
    *,
    block: tuple[int, ...],
    measure: bool,
    check: Callable[[], None],
    each: Each = map,
) -> Generator[Event, None, MadeObjects]:
    """Take the classes that a device has decided on as the labels: count and measure them.

    Parameters
    ----------
    prediction : Prediction
        Of the kind "classes".
    method, block, measure, check
        As for :func:`make_objects`.
    each : callable
        Looks at the blocks: ``map``, or what has others do it.

    Yields
    ------
    Event

    Returns
    -------
    MadeObjects
        What :func:`make_objects` returns where the device was not asked.
    """
    made = MadeObjects(method, makes_objects=False)
    began = time.perf_counter()
    frames, spatial = _frames(prediction), prediction.axes.select(prediction.axes.spatial)
    yield Started("making objects")
    for number, frame in enumerate(frames):
        labels = Frame(prediction.probabilities, frame)
        regions = Grid(labels.shape, block).blocks(check)
        table = measure_classes(labels, regions, spatial, each=each)
        made.count = max(made.count, int(table["label"].max(initial=0)))
        if measure:
            made.tables.append(_with_frame(table, frame))
        yield TileDone(number + 1, len(frames))
    made.seconds = time.perf_counter() - began
    return made


def _frames(prediction: Prediction) -> list[int | None]:
    """Return the numbers of the frames; None stands for the only one of what has no time."""
    return [*range(prediction.info.length("T"))] if "T" in prediction.axes else [None]


def _with_frame(table: Table, number: int | None) -> Table:
    if number is None:
        return table
    frames = np.full(len(table["label"]), number, np.int64)
    return {"label": table.pop("label"), "frame": frames, **table}
