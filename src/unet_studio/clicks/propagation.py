"""From one plane to the next: slices of a stack, frames of a movie."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_studio.clicks.contract import choose
from unet_studio.clicks.prompts import Patch, PlaneBox, Point, Prompt, Prompts, box_at
from unet_studio.clicks.solving import Answer, Eye, answer_of
from unet_studio.clicks.views import unseen
from unet_studio.events import CancelToken

FROM_PROPAGATION = "propagation"
ENDS, IMPLAUSIBLE, OWN, LAST, ENOUGH = (
    "the object ends",
    "what follows is implausible",
    "the next plane has clicks of its own",
    "the image ends",
    "as far as asked",
)
# Of an object and itself one plane on.
_LEAST_OVERLAP = 0.2
_LEAST_AREA, _MOST_AREA = 0.3, 3.0
_LEAST_CONFIDENCE = 0.5
_END_AREA = 0.05  # of the area where it started
_SMALLEST = 4  # pixels


@dataclass(frozen=True)
class Propagation:
    """How far an object was followed.

    Attributes
    ----------
    axis : str
    first, last : int
        The planes it has now, both included.
    before, after : str
        Why it was not followed farther towards lower and towards higher numbers; empty
        if it was stopped, or not asked for.
    """

    axis: str
    first: int
    last: int
    before: str = ""
    after: str = ""


def deepest(mask: Patch) -> Point:
    """Return the pixel of a mask that is farthest from its outside, Y, X."""
    depth = ndimage.distance_transform_edt(np.pad(mask.values, 1))
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(mask.top + y - 1), float(mask.left + x - 1)


def follow(eye: Eye, last: Answer) -> tuple[Answer, str]:
    """Return the object on the plane of ``eye``, and why it is not there; one is empty.

    The network is shown the last plane's mask as the mask so far and a click on its
    deepest pixel, but that pixel is not forced to be in the result.

    Parameters
    ----------
    eye : Eye
        In front of the new plane.
    last : Answer
        Of the plane before.
    """
    mask = last.mask
    centre = deepest(mask)
    prompts = Prompts((Prompt((centre,)),))
    view = eye.view(mask.box.centre, float(mask.box.longer))
    soft = Patch(mask.top, mask.left, mask.values.astype(np.float16))
    with eye.reader.keeping():
        probability, _ = eye.look([view], prompts, soft)[0]
    height, width = eye.reader.shape
    top, left = max(0, view.top), max(0, view.left)
    values = unseen(probability, view)[
        top - view.top : height - view.top, left - view.left : width - view.left
    ]
    box = box_at(top, left, values.shape)
    before = mask.within(box)
    if not (values > 0.5)[before].any():
        return Answer(), ENDS
    found, _ = choose(values, top, left, (), (), _piece_of(values > 0.5, before, box))
    answer = answer_of(found, values, top, left, view)
    own = found.within(box)
    areas = int(own.sum()), int(before.sum()), int((own & before).sum())
    return answer, _objection(*areas, answer.confidence)


def _piece_of(likely: NDArray[np.bool_], before: NDArray[np.bool_], box: PlaneBox) -> Patch:
    """Return the piece that has most in common with the mask before."""
    pieces, count = ndimage.label(likely)
    common = np.bincount(pieces[before], minlength=count + 1)
    common[0] = 0
    return Patch(box.top, box.left, pieces == int(common.argmax()))


def _objection(area: int, before: int, common: int, confidence: float) -> str:
    if area < _SMALLEST:
        return ENDS
    overlap = common / (area + before - common)
    ratio = area / before
    if (
        overlap < _LEAST_OVERLAP
        or not _LEAST_AREA <= ratio <= _MOST_AREA
        or confidence < _LEAST_CONFIDENCE
    ):
        return IMPLAUSIBLE
    return ""


def spread(
    eye_at: Callable[[int], Eye],
    start: Answer,
    planes: Iterable[int],
    own: Callable[[int], bool],
    token: CancelToken,
) -> Generator[tuple[int, Answer], None, str | None]:
    """Follow an object over planes in their order, for as long as it goes.

    Parameters
    ----------
    eye_at : callable
        Plane number to the eye in front of it.
    start : Answer
    planes : iterable of int
    own : callable
        Whether a plane has prompts of its own, which are not overruled.
    token : CancelToken

    Yields
    ------
    tuple of int and Answer

    Returns
    -------
    str or None
        Why it ended; empty if it was stopped, None if the planes were used up.
    """
    last, first_area = start, int(start.mask.values.sum())
    for plane in planes:
        if token.cancelled:
            return ""
        if own(plane):
            return OWN
        answer, objection = follow(eye_at(plane), last)
        if objection:
            return objection
        if answer.mask.values.sum() < _END_AREA * first_area:
            return ENDS
        yield plane, answer
        last = replace(answer, looks=())
    return None


def both_ways(
    eye_at: Callable[[int], Eye],
    start: Answer,
    here: int,
    length: int,
    most: tuple[int | None, int | None],
    own: Callable[[int], bool],
    token: CancelToken,
) -> Generator[tuple[int, Answer], None, tuple[str, str]]:
    """Follow an object towards higher numbers, then towards lower ones.

    Parameters are those of :func:`spread`, and

    Parameters
    ----------
    here, length : int
        The plane it starts on, and how many there are.
    most : (int or None, int or None)
        At most so many planes towards lower and towards higher numbers.

    Returns
    -------
    (str, str)
        Why it ended towards lower and towards higher numbers; empty if it was stopped.
    """
    ends = ["", ""]
    for side, room in ((1, length - 1 - here), (0, here)):
        asked = most[side]
        count = room if asked is None else min(room, asked)
        step = 1 if side else -1
        planes = range(here + step, here + step * (count + 1), step)
        end = yield from spread(eye_at, start, planes, own, token)
        ends[side] = (LAST if count == room else ENOUGH) if end is None else end
    return ends[0], ends[1]
