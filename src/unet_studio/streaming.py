"""The whole path for images of any size: from an array or Zarr to labels in an OME-Zarr.

Nothing but tiles and blocks is in memory. Probabilities and provisional labels
lie in a scratch folder beside the result, and are removed with it done; the
result appears whole, with a marker that says so, or not at all. The labels are
those of :func:`unet_studio.pipeline.segment`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.events import CancelToken, Event, Started, Warned, drain
from unet_studio.images.atomic import scratch_folder
from unet_studio.images.blocks import in_threads
from unet_studio.images.volume import Volume
from unet_studio.images.zarr_levels import new_level
from unet_studio.inference.disk import shortage_of_disk
from unet_studio.inference.plan import RunPlan, resolve
from unet_studio.inference.writing import SCRATCH_CHUNK
from unet_studio.pipeline import prepare
from unet_studio.recipe import ObjectsMethod
from unet_studio.streaming_results import Places, StreamedSegmentation, write_stores

if TYPE_CHECKING:
    from unet_studio.inference.decision import Decision
    from unet_studio.models.model import Model
    from unet_studio.recipe import Recipe

# Of blocks that objects are made in, in pixels: as many as the plan counts on. Deep ones
# in a stack: a seam cuts objects apart that are then looked at one by one.
_BLOCK = {2: (2048, 2048), 3: (64, 256, 256)}
_MOST_CLASSES = 256  # in a byte


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
    places = Places(target, probabilities, beside, key)
    places.check()
    with scratch_folder(target) as scratch:
        decision = decision_of(method, plan) if probabilities is None else None
        if warning := shortage_of_disk(plan, scratch, classes=decision is not None):
            yield Warned(warning)
        # Classes that the device decides are the labels already. The chunks of a stack are
        # deep: too many of them would wait for the tiles below, so they are packed in the end.
        final = decision is not None and "Z" not in plan.info.axes
        if final:
            output = _final_level(scratch / "labels", plan)
        elif decision is not None:
            output = _scratch_array(scratch / "labels", plan, "uint8")
        else:
            output = _scratch_array(scratch / "probabilities", plan, "float16")
        prediction = yield from predict_steps(
            volume, model, plan, token=token, keep=decision or "probabilities", output=output
        )
        yield from (Warned(note) for note in notes)
        if decision is not None:
            labels = output
            made = yield from take_classes(
                prediction, method, block=object_block(labels.shape, plan),
                measure=recipe.measure, check=check, each=in_threads,
            )  # fmt: skip
        else:
            labels = _scratch_array(scratch / "labels", plan, "uint32")
            known = _known_array(scratch / "known", labels) if method.link is not None else None
            made = yield from make_objects(
                prediction, method, labels, known, block=object_block(labels.shape, plan),
                measure=recipe.measure, check=check,
            )  # fmt: skip
        made.warnings[:0] = notes
        return (
            yield from write_stores(
                prediction, made, labels, places, recipe.measure, check, take=final
            )
        )


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

    if (
        plan.averages
        or plan.card.preparation is not None
        or plan.card.out_channels > _MOST_CLASSES
    ):
        return None
    support = METHODS.load(method.method).support
    return support.decision(parse_options(method)) if support is not None else None


def _scratch_array(path: Path, plan: RunPlan, dtype: str) -> Any:
    """Make an empty Zarr array for probabilities (of float, with C) or provisional labels."""
    import zarr
    from zarr.codecs import BloscCodec

    names = plan.info.axes.canonical.without("C").names
    shape = [plan.info.length(a) for a in names]
    # A network of two dimensions fills a stack plane by plane.
    inner = SCRATCH_CHUNK[3 if "Z" in names and plan.card.ndim == 3 else 2]
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


def _final_level(path: Path, plan: RunPlan) -> Any:
    """Make an empty array of classes that can become the finest level of the result."""
    import zarr

    axes = plan.info.axes.canonical.without("C")
    shape = tuple(plan.info.length(a) for a in axes.names)
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    return new_level(group, "0", shape, axes, np.dtype("u1"))


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
