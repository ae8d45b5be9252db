"""The whole path for images of any size: from an array or Zarr to labels in an OME-Zarr.

Nothing but tiles and blocks is in memory. Probabilities and provisional labels
lie in a scratch folder beside the result, and are removed with it done; the
result appears whole, with a marker that says so, or not at all. The labels are
those of :func:`unet_studio.pipeline.segment`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.axes import Axes
from unet_studio.errors import OutputError
from unet_studio.events import CancelToken, Event, Started, Warned
from unet_studio.images.atomic import scratch_folder
from unet_studio.images.ome_zarr import write_chunked
from unet_studio.images.volume import Volume
from unet_studio.images.writers import remove_files, remove_records
from unet_studio.images.zarr_marker import is_ours
from unet_studio.inference.disk import shortage_of_disk
from unet_studio.inference.plan import RunPlan, resolve
from unet_studio.pipeline import drain, prepare
from unet_studio.recipe import ObjectsMethod

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.images.blocks import Each
    from unet_studio.inference.decision import Decision
    from unet_studio.inference.prediction import Prediction
    from unet_studio.models.model import Model
    from unet_studio.objects.streamed import MadeObjects
    from unet_studio.recipe import Recipe

# Of blocks that objects are made in, in pixels: as many as the plan counts on. Deep ones
# in a stack: a seam cuts objects apart that are then looked at one by one.
_BLOCK = {2: (2048, 2048), 3: (64, 256, 256)}
_MOST_CLASSES = 256  # in a byte
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
        What became of each object, one value per object in each column
        (:class:`~unet_studio.objects.linking.Tracks`); empty if objects were not
        linked through time.
    """

    path: Path
    labels: Any
    axes: Axes
    measurements: dict[str, NDArray[Any]]
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()
    tracks: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def features(self) -> dict[str, NDArray[Any]]:
        """One row per label: the measurements, or of linked objects their summary."""
        if not self.tracks:
            return self.measurements
        from unet_studio.objects.measurements import summarise

        return summarise(self.measurements, self.tracks)

    @property
    def object_count(self) -> int:
        """Number of objects, linked ones once (for class labels: the highest class found)."""
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
    beside: Path | None = None,
    key: str = "",
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
    beside : Path, optional
        After which all other results are called, if not after ``target``. An older result
        there is replaced, too.
    key : str
        Of what the labels are made; goes into their marker.

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
    from unet_studio.objects.streamed import make_objects, take_classes

    token = token or CancelToken()
    check = token.raise_if_cancelled
    if model is None:
        yield Started("loading the model")
        model = load_model(recipe.model)
    plan = resolve(recipe, model.card, volume.info, streamed=True)
    method, notes = checked_method(recipe, plan)
    for path in filter(None, (target, probabilities)):
        check_target(path)
    with scratch_folder(target) as scratch:
        decision = decision_of(method, plan) if probabilities is None else None
        if warning := shortage_of_disk(plan, scratch, classes=decision is not None):
            yield Warned(warning)
        if decision is not None:
            provisional = _scratch_array(scratch / "labels", plan, "uint8")
            steps = predict_steps(
                volume, model, plan, token=token, keep=decision, output=provisional
            )
            prediction = yield from steps
            yield from (Warned(note) for note in notes)
            block = object_block(provisional.shape, plan)
            made = yield from take_classes(
                prediction, method, block=block, measure=recipe.measure, check=check
            )
        else:
            kept = _scratch_array(scratch / "probabilities", plan, "float16")
            prediction = yield from predict_steps(volume, model, plan, token=token, output=kept)
            yield from (Warned(note) for note in notes)
            provisional = _scratch_array(scratch / "labels", plan, "uint32")
            made = yield from make_objects(
                prediction,
                method,
                provisional,
                _known_array(scratch / "known", provisional) if method.link is not None else None,
                block=object_block(provisional.shape, plan),
                measure=recipe.measure,
                check=check,
            )
        made.warnings[:0] = notes
        # From here on it is being replaced.
        older = [f for path in (target, beside) if path is not None for f in remove_records(path)]
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
        result = finish(prediction, made, provisional, recipe, target, check, key)
        remove_files(older, target, probabilities)
        return result


def checked_method(recipe: Recipe, plan: RunPlan) -> tuple[ObjectsMethod, tuple[str, ...]]:
    """Return the objects method with all options written out, and warnings.

    Whatever can not be done is refused now, before hours of prediction.
    """
    from unet_studio.objects.blockwise import check_method
    from unet_studio.objects.run import possible_link

    method = recipe.objects or plan.card.default_objects
    chosen, options = check_method(method, plan.card.representation)
    link, notes = possible_link(method, "T" in plan.info.axes, chosen.makes_objects)
    return ObjectsMethod(method=method.method, options=options.model_dump(), link=link), notes


def decision_of(method: ObjectsMethod, plan: RunPlan) -> Decision | None:
    """Return what the device can decide, where that is all that is wanted of it."""
    from unet_studio.objects.methods import METHODS, parse_options

    averaged = plan.views or (plan.tiles.blend and plan.tiles.count > 1)
    if averaged or plan.card.preparation is not None or plan.card.out_channels > _MOST_CLASSES:
        return None
    support = METHODS.load(method.method).support
    return support.decision(parse_options(method)) if support is not None else None


def finish(
    prediction: Prediction,
    made: MadeObjects,
    provisional: Any,
    recipe: Recipe,
    target: Path,
    check: Callable[[], None],
    key: str,
    each: Each = map,
) -> StreamedSegmentation:
    """Write the final store, and put together what is to be said of it.

    Parameters
    ----------
    prediction : Prediction
    made : MadeObjects
    provisional : array-like of int
        The labels, axes ``[T] [Z] Y X``.
    recipe : Recipe
    target : Path
    check : callable
        Called before each slab; may raise to stop.
    key : str
        Of what the labels are made; goes into their marker.
    each : callable
        Writes the slabs: ``map``, or what has others do it.
    """
    import zarr

    from unet_studio.objects.run import smallest_label_dtype

    axes = prediction.axes.without("C") if "C" in prediction.axes else prediction.axes
    warnings = [*prediction.warnings, *made.warnings]
    record = dict(prediction.record)
    record["warnings"] = warnings
    record["objects"] = {
        "method": made.method.method,
        "options": dict(made.method.options),
        "count": made.count,
    }
    if made.tracks is not None:
        record["objects"]["tracks"] = made.tracks.counts()
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
        metadata={"record": record, "key": key},
        labels=True,
        check=check,
        each=each,
    )
    labels = zarr.open_array(str(target / "0"), mode="r")
    tracks = made.tracks.columns() if made.tracks is not None else {}
    return StreamedSegmentation(
        target, labels, axes, _joined(made.tables), record, tuple(warnings), tracks
    )


def check_target(path: Path) -> None:
    """Refuse a place that holds what this program did not write.

    Raises
    ------
    OutputError
    """
    if path.exists() and not is_ours(path):
        raise OutputError(
            f"{path} exists and was not written by this program, so it stays. Move it away or "
            "choose another name."
        )


def _scratch_array(path: Path, plan: RunPlan, dtype: str) -> Any:
    """Make an empty Zarr array for probabilities (of float, with C) or provisional labels."""
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
    if dtype == "float16":
        place = 1 if "T" in names else 0
        shape.insert(place, plan.card.out_channels)
        chunks.insert(place, plan.card.out_channels)
    return zarr.create_array(
        store=str(path),
        shape=tuple(shape),
        chunks=tuple(chunks),
        dtype=dtype,
        compressors=BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"),
        fill_value=0,
    )


def _known_array(path: Path, labels: Any) -> Any:
    """Make an empty Zarr array as large as a frame of the labels, T being their first axis."""
    import zarr

    return zarr.create_array(
        store=str(path),
        shape=labels.shape[1:],
        chunks=labels.chunks[1:],
        dtype=labels.dtype,
        compressors=labels.compressors,
        fill_value=0,
    )


def object_block(shape: Sequence[int], plan: RunPlan) -> tuple[int, ...]:
    """Return the blocks to make objects in: whole chunks, and no larger than the image."""
    ndim = 3 if "Z" in plan.info.axes else 2
    return tuple(min(b, n) for b, n in zip(_BLOCK[ndim], shape[-ndim:], strict=True))


def _joined(tables: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    names = tables[0] if tables else ()
    return {name: np.concatenate([t[name] for t in tables]) for name in names}
