"""Run an objects method over a prediction: one frame after another, ids unique over all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import Axes
from unet_studio.errors import RecipeError
from unet_studio.objects.cleaning import scan_order
from unet_studio.objects.linking import Tracks, link_frames
from unet_studio.objects.methods import METHODS, Method, parse_options, suitable_methods
from unet_studio.recipe import Linking, ObjectsMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from pydantic import BaseModel

    from unet_studio.inference.prediction import Prediction

_MEANING = {
    "binary": "one foreground probability",
    "classes": "a probability for each class",
    "objects": "foreground, boundary and distance",
}


@dataclass(frozen=True)
class Labelling:
    """Labels made of a prediction.

    Attributes
    ----------
    labels : array of unsigned int
        Axes as in ``axes``. 0 is background. Objects are numbered 1..n
        without gaps over the whole array, in the order of a scan (linked ones
        once, where they appear); classes keep their numbers.
    axes : Axes
        Canonical, without C.
    method : ObjectsMethod
        What was run, with every option written out.
    makes_objects : bool
        Whether the labels are objects; otherwise they are classes.
    count : int
        Number of objects, or the highest class found. A linked object counts once.
    tracks : Tracks or None
        What became of each object, if they were linked through time.
    warnings : tuple of str
        What the user should know.
    """

    labels: NDArray[np.unsignedinteger]
    axes: Axes
    method: ObjectsMethod
    makes_objects: bool
    count: int
    tracks: Tracks | None = None
    warnings: tuple[str, ...] = ()


def smallest_label_dtype(max_id: int, *, objects: bool = True) -> np.dtype[Any]:
    """Return the smallest dtype in which labels up to ``max_id`` fit.

    Objects take 16 bits at least, so that a few can be added by hand; classes
    take 8.

    Raises
    ------
    ValueError
        If the number is negative or needs more than 64 bits.
    """
    candidates = (np.uint16, np.uint32, np.uint64)
    for candidate in candidates if objects else (np.uint8, *candidates):
        if 0 <= max_id <= np.iinfo(candidate).max:
            return np.dtype(candidate)
    raise ValueError(f"No label dtype holds {max_id}.")


def run_objects(
    prediction: Prediction,
    method: ObjectsMethod | None = None,
    *,
    check: Callable[[], None] | None = None,
) -> Labelling:
    """Turn probabilities into labels.

    Each frame is segmented on its own. Where ``method.link`` says so, the objects
    of successive frames are then linked; it is ignored, with a warning, where
    there is no time axis, or where the method makes no single objects.

    Parameters
    ----------
    prediction : Prediction
        Left as it is.
    method : ObjectsMethod, optional
        By default that of the model.
    check : callable, optional
        Called before each frame; may raise to stop, as
        ``CancelToken.raise_if_cancelled`` does.

    Raises
    ------
    RecipeError
        If the method or an option is unknown, an option is out of range, or
        the method can not work with what this model predicts.
    """
    method = method or prediction.card.default_objects
    chosen = METHODS.load(method.method)
    options = parse_options(method)
    representation = prediction.card.representation
    if representation not in chosen.representations:
        raise RecipeError(
            f"The objects method {method.method!r} can not be used with the model "
            f"{prediction.card.name!r}, which predicts {_MEANING[representation]}. "
            f"Choose one of: {', '.join(suitable_methods(representation))}."
        )
    if prediction.kind != "probabilities":
        raise RecipeError(
            f"Objects are made of probabilities, but this prediction holds {prediction.kind}. "
            'Predict again with keep="probabilities".'
        )
    timed = "T" in prediction.axes
    link, warnings = possible_link(method, timed, chosen.makes_objects)
    frames = _segmented(prediction, chosen, options, check)
    if link is not None:
        made, tracks = _collect(link_frames(frames, link), objects=True)
    elif chosen.makes_objects:
        made, tracks = _collect(_numbered(frames), objects=True)
    else:
        made, tracks = _collect(frames, objects=False)
    highest = max((int(labels.max(initial=0)) for labels in made), default=0)
    return Labelling(
        labels=_assemble(made, highest, timed, chosen.makes_objects),
        axes=prediction.axes.canonical.without("C"),
        method=ObjectsMethod(method=method.method, options=options.model_dump(), link=link),
        makes_objects=chosen.makes_objects,
        count=highest,
        tracks=tracks,
        warnings=warnings,
    )


def possible_link(
    method: ObjectsMethod, timed: bool, makes_objects: bool
) -> tuple[Linking | None, tuple[str, ...]]:
    """Return how to link, and a warning where it was asked for and can not be done.

    Parameters
    ----------
    method : ObjectsMethod
    timed : bool
        The image has a time axis.
    makes_objects : bool
        The method makes single objects, not classes.
    """
    if method.link is None or (timed and makes_objects):
        return method.link, ()
    if makes_objects:
        why = (
            "the image has no time axis. If one of its dimensions is time, name its axes, "
            "such as TYX."
        )
    else:
        why = f"the objects method {method.method!r} makes a mask or classes, not single objects."
    return None, (f"Objects were not linked through time: {why}",)


def _segmented(
    prediction: Prediction, chosen: Method, options: BaseModel, check: Callable[[], None] | None
) -> Generator[NDArray[np.integer], None, None]:
    probabilities = prediction.probabilities
    for frame in probabilities if "T" in prediction.axes else probabilities[None]:
        if check is not None:
            check()
        yield chosen.function(frame, options, prediction.card.representation)


def _numbered(
    frames: Iterable[NDArray[np.integer]],
) -> Generator[NDArray[np.integer], None, None]:
    """Give every object of every frame a number of its own."""
    total = 0
    for frame in frames:
        labels, count = scan_order(frame)
        if total:
            # Added in 64 bits: int32 would overflow silently.
            labels = np.where(labels > 0, labels.astype(np.int64) + total, 0)
        total += count
        yield labels


def _collect(
    steps: Generator[NDArray[np.integer], None, Tracks | None], *, objects: bool
) -> tuple[list[NDArray[np.integer]], Tracks | None]:
    """Return all frames, kept small (a long movie is many), and the value at the end."""
    made: list[NDArray[np.integer]] = []
    while True:
        try:
            labels = next(steps)
        except StopIteration as end:
            return made, end.value
        highest = int(labels.max(initial=0))
        made.append(labels.astype(smallest_label_dtype(highest, objects=objects)))


def _assemble(
    made: list[NDArray[np.integer]], highest: int, timed: bool, objects: bool
) -> NDArray[np.unsignedinteger]:
    dtype = smallest_label_dtype(highest, objects=objects)
    if not timed:
        return made[0].astype(dtype, copy=False)
    result = np.empty((len(made), *made[0].shape), dtype)
    for index, labels in enumerate(made):
        result[index] = labels
    return result
