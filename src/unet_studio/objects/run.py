"""Run an objects method over a prediction: one frame after another, ids unique over all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import Axes
from unet_studio.errors import RecipeError
from unet_studio.objects.cleaning import scan_order
from unet_studio.objects.methods import METHODS, parse_options, suitable_methods
from unet_studio.recipe import ObjectsMethod

if TYPE_CHECKING:
    from collections.abc import Callable

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
        without gaps over the whole array, in the order of a scan; classes
        keep their numbers.
    axes : Axes
        Canonical, without C.
    method : ObjectsMethod
        What was run, with every option written out.
    makes_objects : bool
        Whether the labels are objects; otherwise they are classes.
    count : int
        Number of objects, or the highest class found.
    """

    labels: NDArray[np.unsignedinteger]
    axes: Axes
    method: ObjectsMethod
    makes_objects: bool
    count: int


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
    probabilities = prediction.probabilities
    timed = "T" in prediction.axes
    frames = probabilities if timed else probabilities[None]
    made: list[NDArray[np.integer]] = []
    total = 0
    for frame in frames:
        if check is not None:
            check()
        labels = chosen.function(frame, options, representation)
        if chosen.makes_objects:
            labels, count = scan_order(labels)
            if total:
                # Added in 64 bits: int32 would overflow silently.
                labels = np.where(labels > 0, labels.astype(np.int64) + total, 0)
            total += count
        else:
            total = max(total, int(labels.max(initial=0)))
        # Kept small: a long movie is many frames.
        made.append(labels.astype(smallest_label_dtype(total, objects=chosen.makes_objects)))
    return Labelling(
        labels=_assemble(made, total, timed, chosen.makes_objects),
        axes=prediction.axes.canonical.without("C"),
        method=ObjectsMethod(method=method.method, options=options.model_dump()),
        makes_objects=chosen.makes_objects,
        count=total,
    )


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
