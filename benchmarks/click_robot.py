"""The robot that clicks: its objects, its clicks, and the methods that answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_studio import ClickSession, read_image
from unet_studio.clicks.network import ClickNetwork

MOST_CLICKS = 20
GOALS = (0.80, 0.85)
LEAST_AREA = 30
NUCLEI = "nuclei, fluorescence"


@dataclass(frozen=True)
class Kind:
    """Objects of one kind: where they are, and how labels become objects.

    Attributes
    ----------
    folders : tuple of str
        Below the data, with ``images`` and ``masks`` of the same names.
    classes : tuple of int
        Pixels of these values are objects, one per connected piece; empty: the values
        are the objects' numbers.
    first_plane : int
        Of a stack whose lower planes the model was trained on: the first that counts.
    """

    folders: tuple[str, ...]
    classes: tuple[int, ...] = ()
    first_plane: int = 0


KINDS = {
    NUCLEI: Kind(("dsb2018_fluo/val", "dsb2018_fluo_large/val")),
    "nuclei, histology": Kind(("dsb2018_histology/val",)),
    "nuclei, bright field": Kind(("dsb2018_brightfield/val",)),
    "cells, phase contrast": Kind(("ctc_phc_c2dl_psc/val",), (1,)),
    "mitochondria, EM": Kind(("vnc_sstem_multiclass/val",), (2,)),
    "cells, EM": Kind(("isbi2012_em/val",), (0,)),
    "ovule nuclei, by slice": Kind(("ovule_nuclei_3d",), first_plane=66),
    "ovule cells, by slice": Kind(("ovule_cells_3d",), first_plane=22),
    "hippocampus, by slice": Kind(("msd_hippocampus_3d/val",), (1, 2)),
}


@dataclass(frozen=True)
class Target:
    """One object on one plane: (Y, X) or (C, Y, X) pixels, and where it is."""

    name: str
    image: NDArray[Any]
    truth: NDArray[np.bool_]


def planes_of(folder: Path, first: int = 0) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Yield name, image (C, Y, X) and labels (Y, X) of every plane of a folder."""
    for path in sorted((folder / "images").iterdir()):
        mask_path = next((folder / "masks").glob(path.name.partition(".")[0] + ".*"))
        volume, mask = read_image(path), read_image(mask_path)
        pixels, labels = volume.read(), mask.read()[0]
        if labels.ndim == 2:
            yield path.name, pixels, labels
            continue
        for z in range(first, labels.shape[0]):
            yield f"{path.name} z{z}", pixels[:, z], labels[z]


def targets_of(data: Path, kind: Kind, count: int, seed: int = 0) -> list[Target]:
    """Draw objects of a kind: planes in turn, so that crowded ones do not count for all."""
    generator = np.random.default_rng(seed)
    planes = [p for folder in kind.folders for p in planes_of(data / folder, kind.first_plane)]
    per_plane: list[list[Target]] = []
    for name, image, labels in planes:
        whole = labels.astype(np.int64)
        if kind.classes:
            whole = ndimage.label(np.isin(labels, kind.classes))[0]
        found = []
        for number, box in enumerate(ndimage.find_objects(whole), 1):
            if box is None:
                continue
            pieces, pieces_count = ndimage.label(whole[box] == number)
            sizes = np.bincount(pieces.ravel(), minlength=2)[1:]
            if pieces_count and sizes.max() >= LEAST_AREA:
                truth = np.zeros(labels.shape, bool)
                truth[box] = pieces == 1 + int(sizes.argmax())
                found.append(Target(f"{name} {number}", image, truth))
        generator.shuffle(found)  # type: ignore[arg-type]
        if found:
            per_plane.append(found)
    generator.shuffle(per_plane)  # type: ignore[arg-type]
    turns = (
        p[turn] for turn in range(max(map(len, per_plane))) for p in per_plane if turn < len(p)
    )
    return [target for target, _ in zip(turns, range(count), strict=False)]


Click = tuple[tuple[int, int], bool]


def robot(mask: NDArray[np.bool_], truth: NDArray[np.bool_], noise: Any) -> Click | None:
    """Return where to click next, and whether on the object; None if nothing is wrong.

    Parameters
    ----------
    noise : numpy.random.Generator or None
        Of the noisy robot.
    """
    found: list[tuple[float, NDArray[Any], bool]] = []
    for error, positive in ((truth & ~mask, True), (mask & ~truth, False)):
        if error.any():
            rows, columns = ndimage.find_objects(error.astype(np.uint8))[0]
            depth = np.zeros(error.shape, np.float32)
            inner = ndimage.distance_transform_edt(np.pad(error[rows, columns], 1))
            depth[rows, columns] = inner[1:-1, 1:-1]
            found.append((float(depth.max()), depth, positive))
    if not found:
        return None
    deepest, depth, positive = max(found, key=lambda f: f[0])
    if noise is None:
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return (int(y), int(x)), positive
    # The piece of the error in which it is deepest, but not its middle.
    pieces, _ = ndimage.label(depth > 0)
    piece = pieces == pieces[np.unravel_index(int(depth.argmax()), depth.shape)]
    ys, xs = np.nonzero(piece & (depth >= deepest / 3))
    place = noise.integers(len(ys))
    y, x = np.rint(np.add((ys[place], xs[place]), noise.normal(0, 1, 2))).astype(int)
    inside = 0 <= y < piece.shape[0] and 0 <= x < piece.shape[1] and piece[y, x]
    return ((int(y), int(x)) if inside else (int(ys[place]), int(xs[place]))), positive


Method = Callable[[list[Click]], NDArray[np.bool_]]


def clicks_needed(method: Method, target: Target, noise: Any) -> tuple[list[int], list[float]]:
    """Click until the best goal is reached; return clicks for each goal, and all IoUs."""
    mask = np.zeros(target.truth.shape, bool)
    clicks: list[Click] = []
    ious: list[float] = []
    while len(clicks) < MOST_CLICKS and (not ious or ious[-1] < max(GOALS)):
        click = robot(mask, target.truth, noise)
        if click is None:
            break
        clicks.append(click)
        mask = method(clicks)
        ious.append(float((mask & target.truth).sum() / (mask | target.truth).sum()))
    needed = [next((n for n, v in enumerate(ious, 1) if v >= g), MOST_CLICKS) for g in GOALS]
    return needed, ious


class Ours:
    """A session of its own for each object."""

    def __init__(self, target: Target, network: ClickNetwork) -> None:
        image = target.image
        axes = "CYX" if len(image) > 1 else "YX"
        self.session = ClickSession(image if len(image) > 1 else image[0], network, axes=axes)
        self.shape = target.truth.shape
        self.seconds: list[float] = []
        self.corrected: list[bool] = []

    def __call__(self, clicks: list[Click]) -> NDArray[np.bool_]:
        """Return the mask after the last of the clicks."""
        position, positive = clicks[-1]
        found = self.session.click(position, positive)
        self.seconds.append(found.seconds)
        self.corrected.append(found.corrected)
        mask = np.zeros(self.shape, bool)
        mask[found.region] = found.mask
        return mask


class Seeded:
    """A method of scikit-image in a window of twice the object, whose frame is background."""

    EDGE = 96

    def __init__(self, target: Target, method: str) -> None:
        from skimage.transform import resize

        box = ndimage.find_objects(target.truth.astype(np.uint8))[0]
        half = max(s.stop - s.start for s in box)
        middle = [(s.start + s.stop) // 2 for s in box]
        limits = zip(middle, target.truth.shape, strict=True)
        self.window = tuple(slice(max(0, m - half), min(n, m + half)) for m, n in limits)
        pixels = target.image[:, *self.window].astype(np.float64)
        low, high = np.percentile(pixels, (1, 99))
        pixels = np.clip((pixels - low) / max(high - low, 1e-9), 0, 1)
        self.size = pixels.shape[1:]
        self.factor = min(1.0, self.EDGE / max(self.size))
        small = [max(8, round(n * self.factor)) for n in self.size]
        self.pixels = np.stack([resize(p, small, anti_aliasing=True) for p in pixels])
        self.method, self.shape = method, target.truth.shape

    def __call__(self, clicks: list[Click]) -> NDArray[np.bool_]:
        """Return the mask after all of the clicks."""
        from skimage.transform import resize

        seeds = np.zeros(self.pixels.shape[1:], np.int32)
        seeds[[0, -1]] = seeds[:, [0, -1]] = 2
        for (y, x), positive in clicks:
            at = [(y - self.window[0].start), (x - self.window[1].start)]
            pairs = zip(at, self.size, seeds.shape, strict=True)
            row, column = (int(np.clip((a + 0.5) * n / m, 0, n - 1)) for a, m, n in pairs)
            seeds[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = 2 - positive
        found = resize((self.divide(seeds) == 1).astype(float), self.size, order=1) > 0.5
        mask = np.zeros(self.shape, bool)
        mask[self.window] = found
        return mask

    def divide(self, seeds: NDArray[np.int32]) -> NDArray[Any]:
        """Return which seed every pixel belongs to."""
        from skimage.segmentation import random_walker, watershed

        if not (seeds == 1).any():
            return np.zeros_like(seeds)
        if self.method == "watershed":
            slopes = [ndimage.gaussian_gradient_magnitude(p, 1.0) for p in self.pixels]
            return watershed(np.max(slopes, axis=0), seeds)
        stacked = np.moveaxis(self.pixels, 0, -1)
        return random_walker(stacked, seeds, beta=130, mode="cg_j", channel_axis=-1)
