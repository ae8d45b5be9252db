"""Run an objects method over a prediction: one frame after another, ids unique over all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import Axes
from unet_studio.errors import RecipeError
from unet_studio.events import drain
from unet_studio.images.label_types import smallest_label_dtype
from unet_studio.objects.cleaning import scan_order
from unet_studio.objects.frames import frame_counted, label_frame, parts_of
from unet_studio.objects.linking import Linker, Tracks
from unet_studio.objects.measurements import Counted
from unet_studio.objects.methods import METHODS, Method, parse_options, suitable_methods
from unet_studio.recipe import Linking, ObjectsMethod

if TYPE_CHECKING:
    from collections.abc import Generator

    from pydantic import BaseModel

    from unet_studio.inference.prediction import Prediction
    from unet_studio.models.card import ModelCard

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
    counted : tuple of Counted or None
        For each frame sizes and positions of its objects, where they are known by
        the way; :func:`~unet_studio.objects.measurements.measure` takes them.
    """

    labels: NDArray[np.unsignedinteger]
    axes: Axes
    method: ObjectsMethod
    makes_objects: bool
    count: int
    tracks: Tracks | None = None
    warnings: tuple[str, ...] = ()
    counted: tuple[Counted | None, ...] = ()


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
        Called before each frame and between the blocks of a large one; may raise
        to stop, as ``CancelToken.raise_if_cancelled`` does.

    Raises
    ------
    RecipeError
        If the method or an option is unknown, an option is out of range, or
        the method can not work with what this model predicts.
    """
    result: Labelling = drain(run_objects_steps(prediction, method, check=check))
    return result


def run_objects_steps(
    prediction: Prediction,
    method: ObjectsMethod | None = None,
    *,
    check: Callable[[], None] | None = None,
) -> Generator[tuple[int, int], None, Labelling]:
    """Do what :func:`run_objects` does, and tell how far it is.

    Yields
    ------
    tuple of int
        Steps done, and steps in all as far as it is known.

    Returns
    -------
    Labelling
    """
    method = method or prediction.card.default_objects
    chosen, options = fitting(method, prediction.card)
    if prediction.kind != "probabilities":
        raise RecipeError(
            f"Objects are made of probabilities, but this prediction holds {prediction.kind}. "
            'Predict again with keep="probabilities".'
        )
    timed = "T" in prediction.axes
    link, warnings = possible_link(method, timed, chosen.makes_objects)
    written = ObjectsMethod(method=method.method, options=options.model_dump(), link=link)
    run = _Frames(prediction, written, chosen, check or (lambda: None))
    made = yield from run.label()
    return Labelling(
        labels=_assemble(made, run.highest, timed, chosen.makes_objects),
        axes=prediction.axes.canonical.without("C"),
        method=written,
        makes_objects=chosen.makes_objects,
        count=run.highest,
        tracks=run.linker.tracks() if run.linker is not None else None,
        warnings=warnings,
        counted=tuple(run.counted),
    )


def fitting(method: ObjectsMethod, card: ModelCard) -> tuple[Method, BaseModel]:
    """Return an objects method and its options, if it takes what a model predicts.

    Raises
    ------
    RecipeError
        If there is no such method or option, or it does not go with the model.
    """
    chosen, options = METHODS.load(method.method), parse_options(method)
    representation = card.representation
    if representation not in chosen.representations:
        raise RecipeError(
            f"The objects method {method.method!r} can not be used with the model "
            f"{card.name!r}, which predicts {_MEANING[representation]}. "
            f"Choose one of: {', '.join(suitable_methods(representation))}."
        )
    return chosen, options


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


@dataclass
class _Frames:
    """Labels one frame after another, and keeps what is told of them at the end."""

    prediction: Prediction
    method: ObjectsMethod
    chosen: Method
    check: Callable[[], None]
    highest: int = 0
    linker: Linker | None = None
    counted: list[Counted | None] = field(default_factory=list)

    def label(self) -> Generator[tuple[int, int], None, list[NDArray[np.integer]]]:
        """Return all frames, kept small: a long movie is many."""
        probabilities = self.prediction.probabilities
        frames = probabilities if "T" in self.prediction.axes else probabilities[None]
        if self.method.link is not None:
            shape = frames.shape[2:]
            self.linker = Linker(self.method.link, np.zeros(shape, np.int32), parts_of(shape))
        made: list[NDArray[np.integer]] = []
        for number, frame in enumerate(frames):
            self.check()
            labels = yield from self._label(frame, number, len(frames))
            made.append(
                labels.astype(
                    smallest_label_dtype(self.highest, objects=self.chosen.makes_objects),
                    copy=False,
                )
            )
        return made

    def _label(
        self, frame: NDArray[Any], number: int, of: int
    ) -> Generator[tuple[int, int], None, NDArray[np.integer]]:
        """Label a frame; ids are those of the whole movie."""
        offset = 0 if self.linker is not None else self.highest
        steps = label_frame(
            frame, self.method, self.prediction.card.representation, offset, self.check
        )
        labels, found = yield from frame_counted(steps, number, of)
        if not self.chosen.makes_objects:
            self.highest = max(self.highest, int(labels.max(initial=0)))
            self.counted.append(None)
            return labels
        if found is None:
            labels, count = scan_order(labels)
            if offset:
                # Added in 64 bits: int32 would overflow silently.
                labels = np.where(labels > 0, labels.astype(np.int64) + offset, 0)
        else:
            count = len(found.ids)
        if self.linker is not None:
            labels = labels.astype(np.uint32, copy=False)
            ids = self.linker.link(labels, count, self.check)
            self.highest = max(self.highest, int(ids.max(initial=0)))
            found = found.renumbered(ids) if found is not None else None
        else:
            self.highest = offset + count
        self.counted.append(found)
        return labels


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
