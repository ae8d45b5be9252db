"""The whole path for images of any size: from an array or Zarr to labels in an OME-Zarr.

Nothing but tiles and blocks is in memory. Probabilities and provisional labels
lie in a scratch folder beside the result, and are removed with it done; the
result appears whole, with a marker that says so, or not at all. The labels are
those of :func:`unet_studio.pipeline.segment`.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.axes import Axes
from unet_studio.errors import OutputError, RecipeError
from unet_studio.events import CancelToken, Event, Started, TileDone, Warned
from unet_studio.images.atomic import scratch_folder
from unet_studio.images.frame import Frame
from unet_studio.images.limits import readable_size
from unet_studio.images.ome_zarr import write_chunked
from unet_studio.images.volume import Volume
from unet_studio.images.writers import remove_records
from unet_studio.images.zarr_marker import is_ours
from unet_studio.inference.plan import PROBABILITY_BYTES, RunPlan, resolve
from unet_studio.pipeline import drain, prepare
from unet_studio.recipe import ObjectsMethod

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.inference.prediction import Prediction
    from unet_studio.models.model import Model
    from unet_studio.recipe import Recipe

# Of blocks that objects are made in, in pixels: as many as the plan counts on.
_BLOCK = {2: (2048, 2048), 3: (16, 512, 512)}
# Of the scratch arrays. A plane of a stack is written at a time.
_CHUNK = {2: (512, 512), 3: (8, 256, 256)}


@dataclass(frozen=True)
class StreamedSegmentation:
    """The result of a streamed run.

    Attributes
    ----------
    path : Path
        The OME-Zarr that holds the labels.
    labels : zarr.Array of unsigned int
        Its full resolution, axes as in ``axes``: read only what you need.
    axes : Axes
        Canonical, without C.
    measurements : dict of array
        One value per object (and frame) in each column; empty if nothing was measured.
    record : dict
        The run record, ready for JSON.
    warnings : tuple of str
    tracks : dict of array
        Always empty: objects are not linked through time.
    """

    path: Path
    labels: Any
    axes: Axes
    measurements: dict[str, NDArray[Any]]
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()
    tracks: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def object_count(self) -> int:
        """Number of objects (for class labels: the highest class found)."""
        return int(self.record["objects"]["count"])


def segment_to_zarr(
    image: Any,
    target: Path | str,
    model: str | Model = "nuclei",
    *,
    axes: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    token: CancelToken | None = None,
    **options: Any,
) -> StreamedSegmentation:
    """Segment an image of any size into an OME-Zarr of labels.

    Parameters
    ----------
    image : array, Volume, or path
        A Zarr, dask or memory-mapped array is read a tile at a time.
    target : Path or str
        Folder to write, such as ``"cells_labels.ome.zarr"``. One that an earlier run
        wrote is replaced when this one is complete.
    model, axes, on_event, token, **options
        As for :func:`unet_studio.pipeline.segment`.

    Returns
    -------
    StreamedSegmentation

    Raises
    ------
    UNetStudioError
        One of its subclasses, with a message that says what to do.
    """
    volume, recipe, loaded = prepare(image, model, axes, options)
    steps = segment_to_zarr_steps(volume, recipe, Path(target), model=loaded, token=token)
    result: StreamedSegmentation = drain(steps, on_event)
    return result


def segment_to_zarr_steps(
    volume: Volume,
    recipe: Recipe,
    target: Path,
    *,
    model: Model | None = None,
    token: CancelToken | None = None,
    probabilities: Path | None = None,
) -> Generator[Event, None, StreamedSegmentation]:
    """Run a recipe through the disk, reporting on the way.

    Parameters
    ----------
    volume : Volume
    recipe : Recipe
    target : Path
        Folder for the labels.
    model : Model, optional
        The recipe's model, if it is loaded already.
    token : CancelToken, optional
        Looked at between and within tiles, and between blocks.
    probabilities : Path, optional
        Folder for the probabilities, if they are to be kept.

    Yields
    ------
    Event

    Returns
    -------
    StreamedSegmentation

    Raises
    ------
    UNetStudioError
        One of its subclasses, with a message for the user.
    """
    from unet_studio.inference.predictor import predict_steps
    from unet_studio.models.model import load_model

    token = token or CancelToken()
    check = token.raise_if_cancelled
    if model is None:
        yield Started("loading the model")
        model = load_model(recipe.model)
    plan = resolve(recipe, model.card, volume.info, streamed=True)
    method, notes = _checked_method(recipe, plan)
    for path in filter(None, (target, probabilities)):
        _check_target(path)
    with scratch_folder(target) as scratch:
        if warning := _shortage_of_disk(plan, scratch):
            yield Warned(warning)
        kept = _scratch_array(scratch / "probabilities", plan, channels=True)
        prediction = yield from predict_steps(volume, model, plan, token=token, output=kept)
        yield from (Warned(note) for note in notes)
        provisional = _scratch_array(scratch / "labels", plan, channels=False)
        made = yield from _make_objects(prediction, method, provisional, recipe.measure, check)
        made.warnings[:0] = notes
        remove_records(target)  # of an older result: from here on it is being replaced
        if probabilities is not None:
            yield Started("writing probabilities")
            write_chunked(
                kept,
                prediction.axes,
                probabilities,
                dtype=np.dtype(np.float16),
                metadata={},
                labels=False,
                check=check,
            )
        yield Started("writing labels")
        return _finish(prediction, made, provisional, recipe, target, check)


def _checked_method(recipe: Recipe, plan: RunPlan) -> tuple[ObjectsMethod, tuple[str, ...]]:
    """Return the objects method with all options written out, and warnings.

    Whatever can not be done is refused now, before hours of prediction.
    """
    from unet_studio.objects.blockwise import check_method
    from unet_studio.objects.run import possible_link

    method = recipe.objects or plan.card.default_objects
    chosen, options = check_method(method, plan.card.representation)
    link, notes = possible_link(method, "T" in plan.info.axes, chosen.makes_objects)
    if link is not None:
        raise RecipeError(
            "Objects can not be linked through time in a result that goes through the disk. "
            "Leave linking out, or segment a part of the image."
        )
    return ObjectsMethod(method=method.method, options=options.model_dump()), notes


@dataclass
class _Made:
    """What came of the objects step."""

    method: ObjectsMethod
    makes_objects: bool
    seconds: float
    count: int = 0
    tables: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _make_objects(
    prediction: Prediction,
    method: ObjectsMethod,
    output: Any,
    measure: bool,
    check: Callable[[], None],
) -> Generator[Event, None, _Made]:
    """Label every frame of a prediction into ``output``, block by block."""
    from unet_studio.objects.blockwise import label_blocks
    from unet_studio.objects.grid import Grid
    from unet_studio.objects.measurements import measure_classes, object_table
    from unet_studio.objects.methods import METHODS

    made = _Made(method, METHODS.load(method.method).makes_objects, time.perf_counter())
    axes = prediction.axes.without("C")
    ndim = 3 if "Z" in axes else 2
    frames = range(prediction.info.length("T")) if "T" in axes else [None]
    block = _block(ndim, output.shape[-ndim:])
    for number, frame in enumerate(frames):
        yield Started("making objects")
        offset = made.count if made.makes_objects else 0
        labels = Frame(output, frame)
        result = yield from _blocks_done(
            label_blocks(
                Frame(prediction.probabilities, frame),
                labels,
                method,
                prediction.card.representation,
                block=block,
                offset=offset,
                check=check,
            )
        )
        made.count = max(made.count, offset + result.count)
        spatial = axes.select(axes.spatial)
        if not measure:
            table: dict[str, NDArray[Any]] = {}
        elif made.makes_objects:
            ids = np.arange(1, result.count + 1) + offset
            table = object_table(ids, result.sizes, result.centroids, result.boxes, spatial)
        else:
            grid = Grid(labels.shape, block)
            table = measure_classes(labels, map(grid.bounds, range(grid.size)), spatial)
        made.tables.append(_with_frame(table, number) if table and "T" in axes else table)
        for warning in result.warnings:
            made.warnings.append(warning)
            yield Warned(warning)
    made.seconds = time.perf_counter() - made.seconds
    return made


def _blocks_done(steps: Generator[tuple[int, int], None, Any]) -> Generator[Event, None, Any]:
    while True:
        try:
            done, total = next(steps)
        except StopIteration as stop:
            return stop.value
        yield TileDone(done, total)


def _finish(
    prediction: Prediction,
    made: _Made,
    provisional: Any,
    recipe: Recipe,
    target: Path,
    check: Callable[[], None],
) -> StreamedSegmentation:
    """Write the final store, and put together what is to be said of it."""
    import zarr

    from unet_studio.objects.run import smallest_label_dtype

    axes = prediction.axes.without("C")
    warnings = [*prediction.warnings, *made.warnings]
    record = dict(prediction.record)
    record["warnings"] = warnings
    record["objects"] = {
        "method": made.method.method,
        "options": dict(made.method.options),
        "count": made.count,
    }
    record["recipe"] = {
        **record.get("recipe", {}),
        "objects": made.method.model_dump(mode="json"),
        "measure": recipe.measure,
    }
    record["seconds"] = {**record.get("seconds", {}), "objects": round(made.seconds, 3)}
    write_chunked(
        provisional,
        axes,
        target,
        dtype=smallest_label_dtype(made.count, objects=made.makes_objects),
        metadata={"record": record},
        labels=True,
        check=check,
    )
    labels = zarr.open_array(str(target / "0"), mode="r")
    measurements = _joined(made.tables)
    return StreamedSegmentation(target, labels, axes, measurements, record, tuple(warnings))


def _check_target(path: Path) -> None:
    if path.exists() and not is_ours(path):
        raise OutputError(
            f"{path} exists and was not written by this program, so it stays. Move it away or "
            "choose another name."
        )


def _shortage_of_disk(plan: RunPlan, folder: Path) -> str | None:
    voxels = math.prod(plan.output_shape)
    needed = voxels * (plan.card.out_channels * PROBABILITY_BYTES + 4)
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return None
    return (
        f"The disk of {folder.parent} has {readable_size(free)} free. Intermediate results of "
        f"{plan.info.name!r} take up to {readable_size(needed)}, though mostly far less, as they "
        "are compressed."
    )


def _scratch_array(path: Path, plan: RunPlan, *, channels: bool) -> Any:
    """Make an empty Zarr array for probabilities (with C) or provisional labels."""
    import zarr
    from zarr.codecs import BloscCodec

    names = plan.info.axes.canonical.without("C").names if "C" in plan.info.axes else ""
    names = names or plan.info.axes.canonical.names
    shape = [plan.info.length(a) for a in names]
    # A network of two dimensions fills a stack plane by plane.
    inner = _CHUNK[3] if "Z" in names and plan.card.ndim == 3 else _CHUNK[2]
    chunks = [1] * (len(shape) - len(inner)) + [
        min(n, c) for n, c in zip(shape[-len(inner) :], inner, strict=True)
    ]
    if channels:
        place = 1 if "T" in names else 0
        shape.insert(place, plan.card.out_channels)
        chunks.insert(place, plan.card.out_channels)
    return zarr.create_array(
        store=str(path),
        shape=tuple(shape),
        chunks=tuple(chunks),
        dtype="float16" if channels else "uint32",
        compressors=BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"),
        fill_value=0,
    )


def _block(ndim: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the blocks to make objects in: whole chunks, and no larger than the image."""
    return tuple(min(b, n) for b, n in zip(_BLOCK[ndim], shape, strict=True))


def _with_frame(table: dict[str, NDArray[Any]], number: int) -> dict[str, NDArray[Any]]:
    frames = np.full(len(table["label"]), number, np.int64)
    return {"label": table.pop("label"), "frame": frames, **table}


def _joined(tables: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
