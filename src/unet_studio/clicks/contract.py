"""What holds of every answer, whatever the network said.

A pixel that was clicked as object is in the mask, one that was clicked as not object is
outside, and every connected piece of the mask holds a positive click. Where the network
disagrees, the probability is corrected around the click, at working scale: grown around a
positive one, and cut by a watershed between the clicks around a negative one. What still
breaks the rule by the rounding of scales is put right pixel by pixel. All that is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_studio.clicks.prompts import Patch, Pixel, box_at, patch_of

GROWN = "grown around a positive click"
CUT = "cut around a negative click"
PUT_RIGHT = "single pixels put right"

_REACH = 24.0  # working pixels around a click in which a correction may act
_SURE, _UNSURE = 0.75, 0.25
_FAINT = 0.1  # below this the network says nothing of where the object ends
# Chosen on other objects than those of the table (docs/models/clicks.md says which).
_ALIKE, _DIMMEST, _REACH_ALIKE = 0.4, 0.05, 40.0
_HOLES = 0.02  # holes smaller than this share of the object are filled


@dataclass(frozen=True)
class Corrected:
    """Probabilities that agree with the clicks.

    Attributes
    ----------
    probability : array of float32, axes (edge, edge)
    corrections : tuple of str
        What had to be done; empty if the network agreed.
    """

    probability: NDArray[np.float32]
    corrections: tuple[str, ...] = ()


def correct(
    probability: NDArray[np.float32],
    image: NDArray[np.float32],
    positive: NDArray[np.float64],
    negative: NDArray[np.float64],
    radius: float,
    before: NDArray[np.float32] | None = None,
) -> Corrected:
    """Make probabilities agree with the clicks, each in its neighbourhood.

    A new click says something of all that looked like its pixel, and not of that alone: what
    the answer before it held to be about as likely, and is joined to it, comes with it.

    Parameters
    ----------
    probability : array of float32, axes (edge, edge), range [0, 1]
        Left as it is.
    image : array of float32, axes (edge, edge)
        Its edges are where objects are cut.
    positive, negative : array of float, axes (points, 2)
        Y, X in pixels of the crop; those outside are left to others.
    radius : float
        Of a click's disk, in working pixels.
    before : array of float32, axes (edge, edge), range [0, 1], optional
        Probabilities of the answer before the newest click.
    """
    edge = len(probability)
    inside, outside = _pixels(positive, edge), _pixels(negative, edge)
    found, done = probability.copy(), []
    if before is not None and _bring_along(found, before, inside):
        done.append(GROWN)
    for pixel in [p for p in inside if found[p] <= 0.5]:
        _grow(found, pixel, radius)
        done.append(GROWN)
    # Growing may have reached what was clicked as not object.
    taken = [p for p in outside if found[p] > 0.5 and p not in inside]
    if taken:
        _cut(found, image, inside, [p for p in outside if p not in inside], taken, radius)
        done.append(CUT)
    return Corrected(found if done else probability, tuple(dict.fromkeys(done)))


def _bring_along(
    probability: NDArray[np.float32], before: NDArray[np.float32], inside: Sequence[Pixel]
) -> bool:
    """Add what was about as likely as the pixels that are clicked now; return whether any was."""
    added = np.zeros(probability.shape, bool)
    for pixel in inside:
        at = float(before[pixel])
        if added[pixel] or not _DIMMEST < at <= 0.5:
            continue
        alike = (before >= max(_ALIKE * at, _DIMMEST)) & (before <= 0.5)
        alike &= _distances(probability.shape, pixel) <= _REACH_ALIKE
        pieces, _ = ndimage.label(alike)
        added |= pieces == pieces[pixel]
    added &= probability <= 0.5
    probability[added] = _SURE
    return bool(added.any())


def _pixels(points: NDArray[np.float64], edge: int) -> list[Pixel]:
    rounded = np.floor(points + 0.5).astype(int).reshape(-1, 2)
    kept = rounded[((rounded >= 0) & (rounded < edge)).all(axis=1)]
    return [(int(y), int(x)) for y, x in kept]


def _distances(shape: tuple[int, ...], pixel: Pixel) -> NDArray[np.float64]:
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance: NDArray[np.float64] = np.hypot(y - pixel[0], x - pixel[1])
    return distance


def _grow(probability: NDArray[np.float32], pixel: Pixel, radius: float) -> None:
    """Add what the network holds to be about as likely as the pixel, and is joined to it."""
    distance = _distances(probability.shape, pixel)
    near = distance <= radius
    at = float(probability[pixel])
    if at > _FAINT:
        likely = (probability >= max(0.5 * at, _FAINT)) & (distance <= _REACH)
        pieces, _ = ndimage.label(likely)
        near |= pieces == pieces[pixel]
    np.maximum(probability, _SURE, out=probability, where=near)


def _cut(
    probability: NDArray[np.float32],
    image: NDArray[np.float32],
    inside: Sequence[Pixel],
    outside: Sequence[Pixel],
    taken: Sequence[Pixel],
    radius: float,
) -> None:
    """Divide the mask between positive and negative clicks along edges; take the latter's part."""
    from skimage.segmentation import watershed

    mask = probability > 0.5
    seeds = np.zeros(mask.shape, np.int32)
    for pixel in outside:
        seeds[pixel] = 2
    for pixel in inside:
        seeds[pixel] = 1
    if not (seeds == 1).any():  # a mask to start from: its depth stands for the click
        depth = ndimage.distance_transform_edt(mask & (seeds == 0))
        seeds[np.unravel_index(int(depth.argmax()), depth.shape)] = 1
    slope = ndimage.gaussian_gradient_magnitude(image, 1.0)
    basins = watershed((1 - probability) + slope, seeds, mask=mask)
    for pixel in taken:
        to_others = min((np.hypot(pixel[0] - y, pixel[1] - x) for y, x in inside), default=np.inf)
        reach = min(_REACH, max(3 * radius, 0.75 * to_others))
        distance = _distances(mask.shape, pixel)
        lost = (basins == 2) & (distance <= reach)
        lost |= (distance <= radius) & (distance < 0.5 * to_others)
        np.minimum(probability, _UNSURE, out=probability, where=lost)


def choose(
    probability: NDArray[np.float32],
    top: int,
    left: int,
    positive: Sequence[Pixel],
    negative: Sequence[Pixel],
    start: Patch | None = None,
) -> tuple[Patch, bool]:
    """Return the mask: pieces of what is likely that were clicked, and whether pixels were set.

    Parameters
    ----------
    probability : array of float32, axes (Y, X)
        Of a part of a plane, in pixels of the image.
    top, left : int
        Where in the plane its first pixel is.
    positive, negative : sequence of (int, int)
        Pixels (Y, X) of the plane. A positive one outside the part is not in the mask:
        the part has to hold them all.
    start : Patch, optional
        Mask that was given: pieces that overlap it stay, too.
    """
    own = [(y - top, x - left) for y, x in positive]
    foreign = [(y - top, x - left) for y, x in negative]
    height, width = probability.shape
    foreign = [(y, x) for y, x in foreign if 0 <= y < height and 0 <= x < width]
    mask = _pieces(probability > 0.5, own, _placed(start, top, left, probability.shape))
    mask = _without_small_holes(mask)
    wrong = [p for p in own if not mask[p]] + [p for p in foreign if mask[p]]
    if wrong:
        for pixel in foreign:
            mask[pixel] = False
        for pixel in own:
            mask[pixel] = True
        # Taking a pixel out of a thin object cuts it in two.
        mask = _pieces(mask, own, _placed(start, top, left, probability.shape))
    return patch_of(mask, top, left), bool(wrong)


def _placed(
    start: Patch | None, top: int, left: int, shape: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    if start is None:
        return None
    return start.within(box_at(top, left, shape)).astype(bool)


def _pieces(
    mask: NDArray[np.bool_], own: Sequence[Pixel], start: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Keep the connected pieces (by edges) that hold a click, or overlap the start."""
    pieces, count = ndimage.label(mask)
    kept = np.zeros(count + 1, bool)
    kept[[int(pieces[p]) for p in own]] = True
    if start is not None:
        kept[np.unique(pieces[start & mask])] = True
    kept[0] = False
    found: NDArray[np.bool_] = kept[pieces]
    return found


def _without_small_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return mask
    part = mask[found[0]]
    holes, count = ndimage.label(ndimage.binary_fill_holes(part) & ~part)
    if count:
        sizes = np.bincount(holes.ravel())
        small = sizes <= _HOLES * part.sum()
        small[0] = False
        part |= small[holes]
    return mask


def expected_overlap(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Return the IoU of mask and truth that the probabilities let expect, range [0, 1].

    The ratio of expected intersection and expected union, looking at the mask and a rim
    of three pixels around it.

    Parameters
    ----------
    probability : array of float32, axes (Y, X)
    mask : array of bool, axes (Y, X)
    """
    area = int(mask.sum())
    if area == 0:
        return 0.0
    rim = ndimage.binary_dilation(mask, iterations=3) & ~mask
    return float(probability[mask].sum() / (area + probability[rim].sum()))
