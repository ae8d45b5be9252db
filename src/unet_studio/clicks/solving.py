"""From prompts on a plane to the mask of one object: looking at it from the right distance.

How large the object is decides how far the network zooms in or out. The first click does
not say, so the network looks from several distances at once and the most convincing view
counts; later clicks look from where the object so far fills the view well. If the object
turns out to be of another size, one more look is taken from the right distance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_studio.clicks.contract import PUT_RIGHT, choose, correct, expected_overlap
from unet_studio.clicks.encoding import IMAGE_CHANNELS, encode
from unet_studio.clicks.prompts import (
    EMPTY,
    Patch,
    Pixel,
    PlaneBox,
    Point,
    Prompts,
    box_at,
    box_of,
    patch_of,
)
from unet_studio.clicks.views import LARGEST, PlaneReader, View, seen, unseen, view_around
from unet_studio.models.click_input import ClickInput

FILLS = 0.45  # of the view's edge: the object's longer side
# Edges of the first views, in edges of the crop; the second lot if the first is too small.
# An object from a tenth to six tenths of the edge is found about as well as at its best size.
_ZOOMS = ((0.35, 1.0, 2.8), (8.0, 16.0))
_FITS = 1.35  # a size that is off by less needs no further look
_SPREAD = 0.9  # of the logarithm of the size that an object has in a good view
_CROPPED = 0.35  # how much a view counts whose object is cut by the view's edge
_CONVINCING = 0.2  # merit of a view below which larger ones are looked at, too
_FAINTEST = 0.02  # probabilities that are remembered

Network = Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]


@dataclass(frozen=True)
class Answer:
    """One object on one plane.

    Attributes
    ----------
    mask : Patch of bool
    soft : Patch of float16 or None
        Probabilities, for the next look.
    confidence : float
        IoU with the truth that the network expects, range [0, 1].
    corrections : tuple of str
        What the contract had to do.
    looks : tuple of View
        Where the network looked, in order.
    """

    mask: Patch = EMPTY
    soft: Patch | None = None
    confidence: float = 0.0
    corrections: tuple[str, ...] = ()
    looks: tuple[View, ...] = ()


@dataclass
class Eye:
    """The network in front of one plane.

    Attributes
    ----------
    reader : PlaneReader
    network : callable
        Encoded crops to probabilities.
    spec : ClickInput
    """

    reader: PlaneReader
    network: Network
    spec: ClickInput

    def view(self, centre: Point, size: float) -> View:
        """Return the view of an object of ``size`` pixels around ``centre``."""
        return view_around(centre, size / FILLS, self.spec.edge, self.reader.steps)

    def look(
        self, views: Sequence[View], prompts: Prompts, soft: Patch | None
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return for each view the probabilities and the grey crop, axes (edge, edge)."""
        crops = []
        for view in views:
            spacing = 2 * self.spec.radius / view.scale
            crops.append(
                encode(
                    self.reader.crop(view),
                    seen(soft, view),
                    view.to_working(prompts.points(True, spacing)),
                    view.to_working(prompts.points(False, spacing)),
                    self.spec,
                )
            )
        found = self.network(crops)
        grey = [crop[:IMAGE_CHANNELS].mean(axis=0) for crop in crops]
        return list(zip(found, grey, strict=True))


def solve(eye: Eye, prompts: Prompts, last: Answer, size: float | None = None) -> Answer:
    """Return the object that prompts point at.

    Parameters
    ----------
    eye : Eye
    prompts : Prompts
    last : Answer
        The answer before the newest prompt; an empty one if it is the first.
    size : float, optional
        Longer side of objects that were found before, in pixels: a first guess.
    """
    pointed = box_of(prompts.pixels(True))
    if prompts.box is not None:
        pointed = pointed.join(prompts.box)
    known = last.mask.box.join(pointed)
    if 0 in known.shape:
        return Answer()  # only negative clicks so far
    with eye.reader.keeping():
        if 0 in last.mask.box.shape and prompts.box is None:
            answer = _first(eye, prompts, known, size)
        else:
            soft = last.soft if last.soft is not None else _as_soft(prompts, last)
            answer = _answer(eye, prompts, _framing(eye, known), soft)
        return _at_its_size(eye, prompts, pointed, answer)


def _as_soft(prompts: Prompts, last: Answer) -> Patch | None:
    """Return the mask so far as the network is shown it; of a box, the ellipse in it."""
    if 0 not in last.mask.box.shape:
        return Patch(last.mask.top, last.mask.left, last.mask.values.astype(np.float16))
    box = prompts.box
    if box is None:
        return None
    height, width = box.shape
    y = (np.arange(height) + 0.5)[:, None] / height * 2 - 1
    x = (np.arange(width) + 0.5)[None] / width * 2 - 1
    return Patch(box.top, box.left, (y * y + x * x <= 1).astype(np.float16))


def _framing(eye: Eye, known: PlaneBox) -> View:
    return eye.view(known.centre, float(known.longer))


def _at_its_size(eye: Eye, prompts: Prompts, pointed: PlaneBox, answer: Answer) -> Answer:
    """Look once more if the object is of another size than the view was meant for."""
    found = answer.mask.box.join(pointed)
    view = _framing(eye, found)
    used = answer.looks[-1]
    ratio = view.size / used.size
    shift = max(abs(a - b) for a, b in zip(_middle(view), _middle(used), strict=True)) / min(
        view.size, used.size
    )
    if 1 / _FITS <= ratio <= _FITS and shift <= 0.25:
        return answer
    again = _answer(eye, prompts, view, answer.soft)
    return replace(again, looks=(*answer.looks, *again.looks))


def _middle(view: View) -> Point:
    return view.top + view.size / 2, view.left + view.size / 2


def _first(eye: Eye, prompts: Prompts, known: PlaneBox, size: float | None) -> Answer:
    """Look from several distances and keep the most convincing answer."""
    if size is not None:
        answer = _answer(eye, prompts, eye.view(known.centre, max(size, known.longer)), None)
        if _plausible(answer):
            return answer
    views: list[View] = []
    looks: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    merits: list[tuple[float, bool]] = []
    for zooms in _ZOOMS:
        more = _first_views(eye, known, zooms, required=not views)
        if not more:
            break
        eye.reader.prefetch(more)
        seen_now = eye.look(more, prompts, None)
        merits += [_merit(p, v, prompts) for (p, _), v in zip(seen_now, more, strict=True)]
        views, looks = views + more, looks + seen_now
        best = max(range(len(views)), key=lambda n: merits[n][0])
        if merits[best][0] >= _CONVINCING and not merits[best][1]:
            break  # else it may be larger than all that was looked at
    answer = _finish(eye, prompts, views[best], *looks[best])
    others = (view for n, view in enumerate(views) if n != best)
    return replace(answer, looks=(*others, views[best]))


def _first_views(eye: Eye, known: PlaneBox, zooms: Sequence[float], required: bool) -> list[View]:
    edge, longest, least = eye.spec.edge, max(eye.reader.shape), 1.2 * known.longer
    sizes = [edge * z for z in zooms if edge * z >= least]
    # Beyond twice the image there are only its mirror images.
    within = [size for size in sizes if size <= 2 * longest]
    sizes = within or sizes[: int(required)]
    if not sizes and required:
        sizes = [known.longer / FILLS]
    return [view_around(known.centre, size, edge, eye.reader.steps) for size in sizes]


def _plausible(answer: Answer) -> bool:
    view = answer.looks[-1]
    fills = answer.mask.box.longer / view.size
    return FILLS / 2.5 <= fills <= FILLS * 2 and answer.confidence >= 0.5


def _merit(probability: NDArray[np.float32], view: View, prompts: Prompts) -> tuple[float, bool]:
    """Return how convincing an object is at a view, and whether the view's edge cuts it.

    It should be sure of its outline, whole, and of a good size for the view.
    """
    edge = view.edge
    pixels = np.floor(view.to_working(prompts.points(True, 1.0)) + 0.5).astype(int)
    pixels = np.clip(pixels, 0, edge - 1)
    pieces, _ = ndimage.label(probability > 0.5)
    ids = {int(pieces[y, x]) for y, x in pixels} - {0}
    if not ids:
        return 0.0, False
    mask = np.isin(pieces, list(ids))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    longer = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    cut = min(rows[0], columns[0]) == 0 or max(rows[-1], columns[-1]) == edge - 1
    off = math.log(longer / edge / FILLS) / _SPREAD
    merit = expected_overlap(probability, mask) * math.exp(-0.5 * off * off)
    return merit * (_CROPPED if cut else 1.0), bool(cut)


def _answer(eye: Eye, prompts: Prompts, view: View, soft: Patch | None) -> Answer:
    probability, grey = eye.look([view], prompts, soft)[0]
    before = None if soft is None else seen(soft, view)
    return _finish(eye, prompts, view, probability, grey, before)


def _finish(
    eye: Eye,
    prompts: Prompts,
    view: View,
    probability: NDArray[np.float32],
    grey: NDArray[np.float32],
    before: NDArray[np.float32] | None = None,
) -> Answer:
    """Hold an answer of the network to the contract, in pixels of the image."""
    radius = eye.spec.radius
    positive, negative = prompts.pixels(True), prompts.pixels(False)
    agreed = correct(
        probability,
        grey,
        view.to_working([(float(y), float(x)) for y, x in positive]),
        view.to_working([(float(y), float(x)) for y, x in negative]),
        radius,
        before,
    )
    values = unseen(agreed.probability, view)
    top, left, values = _on_the_plane(values, view, eye.reader.shape, prompts.box, positive)
    start = prompts.start
    if prompts.box is not None and not positive:
        start = _largest_piece(values, top, left)
    mask, put_right = choose(values, top, left, positive, negative, start)
    corrections = (*agreed.corrections, *((PUT_RIGHT,) if put_right else ()))
    return answer_of(mask, values, top, left, view, corrections)


def answer_of(
    mask: Patch,
    values: NDArray[np.float32],
    top: int,
    left: int,
    view: View,
    corrections: tuple[str, ...] = (),
) -> Answer:
    """Return the answer of one look.

    Parameters
    ----------
    mask : Patch of bool
        Within the part.
    values : array of float32, axes (Y, X), range [0, 1]
        Probabilities of a part of the plane.
    top, left : int
        Where in the plane its first pixel is.
    view : View
        That was looked at.
    corrections : tuple of str
    """
    own = mask.within(box_at(top, left, values.shape))
    # Other objects that the network saw are not part of what the next look starts from.
    kept = np.where(own | (values <= 0.5), values, 0).astype(np.float16)
    soft = patch_of(kept, top, left, _FAINTEST)
    return Answer(mask, soft, expected_overlap(values, own), corrections, (view,))


def _on_the_plane(
    values: NDArray[np.float32],
    view: View,
    shape: tuple[int, int],
    box: PlaneBox | None,
    positive: Sequence[Pixel],
) -> tuple[int, int, NDArray[np.float32]]:
    """Cut off what lies outside the image, and outside a box; make room for every click."""
    bounds = view.box.overlap(PlaneBox(0, 0, *shape))
    if box is not None:
        bounds = bounds.overlap(_wider(box))
    room = bounds.join(box_of(positive))
    found = np.zeros(room.shape, np.float32)
    if 0 not in bounds.shape:
        rows = slice(bounds.top - view.top, bounds.bottom - view.top)
        columns = slice(bounds.left - view.left, bounds.right - view.left)
        inner = (
            slice(bounds.top - room.top, bounds.bottom - room.top),
            slice(bounds.left - room.left, bounds.right - room.left),
        )
        found[inner] = values[rows, columns]
    return room.top, room.left, found


def _wider(box: PlaneBox) -> PlaneBox:
    """Return a box with a margin: nobody draws one to the pixel."""
    margin = max(1, round(0.05 * box.longer))
    return PlaneBox(box.top - margin, box.left - margin, box.bottom + margin, box.right + margin)


def _largest_piece(values: NDArray[np.float32], top: int, left: int) -> Patch | None:
    pieces, count = ndimage.label(values > 0.5)
    if count == 0:
        return None
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return Patch(top, left, pieces == int(sizes.argmax()))


def reach_of(eye: Eye) -> float:
    """Return how far apart, in pixels, clicks on one object may be."""
    return 0.8 * LARGEST * max(eye.reader.steps)
