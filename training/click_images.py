"""Images and objects that the click model learns from: real ones, and invented ones.

Real: nuclei of the 2018 Data Science Bowl (CC0), cells and mitochondria of a Drosophila
nerve cord in electron micrographs (Gerhard et al. 2013, CC BY 4.0), nuclei and cells of an
Arabidopsis ovule (PlantSeg's test data, MIT), StarDist's synthetic nuclei (BSD-3).
Invented: label maps of blobs, regions and cells, drawn with random intensities, textures,
membranes and halos, so that the network learns what a click means also for images of kinds
that it has never seen (the idea of SynthMorph, Hoffmann et al. 2022,
doi:10.1109/TMI.2021.3116879, and of ScribblePrompt, Wong et al. 2024, arXiv:2312.07381).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from batched import Draws, ImageStack, stack_images
from unet_studio.images.normalisation import percentile_scaling, sample_for_statistics

# Share of each set in a batch.
SHARES = {
    "dsb2018_fluo": 0.20,
    "dsb2018_fluo_large": 0.02,
    "dsb2018_histology": 0.14,
    "dsb2018_brightfield": 0.08,
    "em_cells": 0.10,
    "em_mitochondria": 0.08,
    "ovule_nuclei": 0.08,
    "ovule_cells": 0.06,
    "stardist_nuclei": 0.02,
    "blobs": 0.08,
    "regions": 0.08,
    "cells": 0.06,
}
INVENTED = ("blobs", "regions", "cells")
# One stack only of each: its upper planes are kept for benchmarks/clicks.py.
OVULE_NUCLEI_PLANES = slice(0, 60)
OVULE_CELLS_PLANES = slice(0, 20)
SMALLEST = 40  # pixels
INVENTED_EDGE = 320

Pair = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class ObjectSet:
    """Images of one set, and every object in them.

    Attributes
    ----------
    stack : ImageStack
    rows : tensor of float, axes (N, 5)
        Index of the image, id, Y and X of the object's innermost pixel, and the longer
        side of its box, in pixels.
    odds : tensor of float, axes (N)
        How often each is drawn.
    """

    stack: ImageStack
    rows: torch.Tensor
    odds: torch.Tensor


def load_sets(data: Path, device: torch.device, invented: int) -> dict[str, ObjectSet]:
    """Read or invent all sets.

    Parameters
    ----------
    invented : int
        Label maps of each invented kind.
    """
    with get_context("fork").Pool() as pool:  # before the device is in use: it does not fork
        pairs = {}
        for name in SHARES:
            if name in INVENTED:
                maps = pool.map(_INVENTORS[name], range(invented))
                pairs[name] = [(np.zeros((3, *ids.shape), np.float32), ids) for ids in maps]
            else:
                pairs[name] = list(_real(name, data))
        tables = {n: pool.map(objects_of, [ids for _, ids in found]) for n, found in pairs.items()}
    return {name: _object_set(name, pairs[name], tables[name], device) for name in SHARES}


def _object_set(
    name: str, pairs: list[Pair], tables: list[list[tuple[float, ...]]], device: torch.device
) -> ObjectSet:
    rows, odds = [], []
    for index, table in enumerate(tables):
        rows += [(index, *row) for row in table]
        odds += [max(len(table), 1) ** -0.5] * len(table)
    stack = stack_images(
        [torch.from_numpy(image) for image, _ in pairs],
        [torch.from_numpy(ids.astype(np.float32))[None] for _, ids in pairs],
        [torch.zeros(0, *ids.shape) for _, ids in pairs],
        device,
        levels=1 if name in INVENTED else 4,
    )
    return ObjectSet(
        stack, torch.tensor(rows, dtype=torch.float32).to(device), torch.tensor(odds).to(device)
    )


def objects_of(ids: NDArray[np.int64]) -> list[tuple[float, float, float, float]]:
    """Return id, innermost pixel Y and X, and box size of each object."""
    table = []
    for number, box in enumerate(ndimage.find_objects(ids), 1):
        if box is None:
            continue
        mask = np.pad(ids[box] == number, 1)
        if mask.sum() < SMALLEST:
            continue
        depth = ndimage.distance_transform_edt(mask)
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        extent = max(mask.shape) - 2
        table.append((number, y - 1 + box[0].start, x - 1 + box[1].start, extent))
    return table


def _scaled(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """Bring (C, Y, X) of any range to about 0 to 1, three channels."""
    scaling = percentile_scaling(sample_for_statistics(image), low=0.5, high=99.8, joint=True)
    return np.array(np.broadcast_to(scaling.apply(image), (3, *image.shape[1:])))


def _real(name: str, data: Path) -> Iterator[Pair]:
    if name.startswith("dsb2018"):
        for path in sorted((data / name / "train" / "images").glob("*.png")):
            pixels = np.asarray(Image.open(path))
            channels = np.moveaxis(pixels[..., :3], -1, 0) if pixels.ndim == 3 else pixels[None]
            ids = np.asarray(Image.open(path.parent.parent / "masks" / path.name))
            yield _scaled(channels), ids.astype(np.int64)
    elif name.startswith("em_"):
        folder = data / "vnc_sstem_multiclass" / "train"
        kinds = (2,) if name == "em_mitochondria" else (0, 2, 3)
        for path in sorted((folder / "images").glob("*.png")):
            classes = np.asarray(Image.open(folder / "masks" / path.name))
            ids, _ = ndimage.label(np.isin(classes, kinds))
            yield _scaled(np.asarray(Image.open(path))[None]), ids.astype(np.int64)
    else:
        folder, planes = {
            "ovule_nuclei": ("ovule_nuclei_3d", OVULE_NUCLEI_PLANES),
            "ovule_cells": ("ovule_cells_3d", OVULE_CELLS_PLANES),
            "stardist_nuclei": ("stardist_synth_nuclei_3d", slice(None)),
        }[name]
        (image_path,) = (data / folder / "images").iterdir()
        (mask_path,) = (data / folder / "masks").iterdir()
        volume, labels = tifffile.imread(image_path), tifffile.imread(mask_path)
        for plane, ids in zip(volume[planes], labels[planes], strict=True):
            separate = _connected(ids.astype(np.int64))
            if separate.max():
                yield _scaled(plane[None]), separate


def _connected(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give an id to each connected part: an object of a volume may be cut into several."""
    result, last = np.zeros_like(ids), 0
    for number, box in enumerate(ndimage.find_objects(ids), 1):
        if box is None:
            continue
        parts, count = ndimage.label(ids[box] == number)
        result[box][parts > 0] = parts[parts > 0] + last
        last += count
    return result


def _noise(rng: np.random.Generator, sigma: float) -> NDArray[np.float64]:
    field = ndimage.gaussian_filter(rng.normal(size=(INVENTED_EDGE,) * 2), sigma, mode="wrap")
    return field / field.std()


def _blobs(seed: int) -> NDArray[np.int64]:
    """Bodies with wavy outlines that may touch; later ones lie on earlier ones."""
    rng = np.random.default_rng((seed, 1))
    ids = np.zeros((INVENTED_EDGE,) * 2, np.int64)
    y, x = np.mgrid[:INVENTED_EDGE, :INVENTED_EDGE]
    typical = rng.uniform(6, 45)
    longest = rng.uniform(1, 3)
    for number in range(1, int(rng.integers(3, min(150, int(6e4 / typical**2)) + 4))):
        radius = typical * rng.lognormal(0, 0.35)
        dy, dx = y - rng.uniform(0, INVENTED_EDGE), x - rng.uniform(0, INVENTED_EDGE)
        turn, stretch = rng.uniform(0, np.pi), rng.uniform(1, longest) ** 0.5
        along, across = (
            dy * np.cos(turn) + dx * np.sin(turn),
            dx * np.cos(turn) - dy * np.sin(turn),
        )
        angle = np.arctan2(across, along)
        wave = sum(
            rng.normal(0, 0.35 / k**1.5) * np.cos(k * angle + rng.uniform(0, 6.3))
            for k in range(2, 7)
        )
        distance = np.hypot(along / stretch, across * stretch)
        ids[distance < radius * np.clip(1 + wave, 0.35, 1.8)] = number
    return _without_crumbs(ids)


def _regions(seed: int) -> NDArray[np.int64]:
    """Regions of any shape that fill the image, some of them background."""
    rng = np.random.default_rng((seed, 2))
    sigma = rng.uniform(5, 28)
    fields = np.stack([_noise(rng, sigma) for _ in range(int(rng.integers(2, 9)))])
    kinds = fields.argmax(0) + 1
    kinds[np.isin(kinds, np.flatnonzero(rng.random(12) < 0.3))] = 0
    return _without_crumbs(_connected(kinds.astype(np.int64)))


def _cells(seed: int) -> NDArray[np.int64]:
    """Cells side by side, bent, with walls of some width between them."""
    rng = np.random.default_rng((seed, 3))
    count = int(rng.integers(8, 150))
    points = rng.uniform(0, INVENTED_EDGE, (count, 2))
    y, x = np.mgrid[:INVENTED_EDGE, :INVENTED_EDGE].astype(float)
    bend = rng.uniform(0, 8)
    y, x = y + bend * _noise(rng, 12), x + bend * _noise(rng, 12)
    distances = np.hypot(y[..., None] - points[:, 0], x[..., None] - points[:, 1])
    nearest = np.partition(distances, 1, -1)[..., :2]
    ids = distances.argmin(-1) + 1
    ids[nearest[..., 1] - nearest[..., 0] < rng.uniform(0, 7)] = 0
    return _without_crumbs(_connected(ids.astype(np.int64)))


def _without_crumbs(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    sizes = np.bincount(ids.ravel())
    ids[(sizes < SMALLEST)[ids]] = 0
    return ids


_INVENTORS = {"blobs": _blobs, "regions": _regions, "cells": _cells}


def paint(ids: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Draw label maps (N, Y, X) as images (N, 3, Y, X), about 0 to 1."""
    height, width = ids.shape[1:]

    def wide(value: torch.Tensor) -> torch.Tensor:
        return value.view(-1, 1, 1)

    def field(edge: int) -> torch.Tensor:
        coarse = draws.normal(1, edge, edge)
        return functional.interpolate(coarse, (height, width), mode="bicubic")[:, 0]

    index = (ids.long() % 512).flatten(1)

    def per_object(spread: torch.Tensor) -> torch.Tensor:
        values = draws.normal(512) * spread.view(-1, 1)
        return values.gather(1, index).view_as(ids)

    inside = ids > 0
    ground = draws.uniform(0.1, 0.9)
    contrast = draws.uniform(0.08, 0.7) * torch.where(draws.chance(0.5), 1.0, -1.0)
    spread = torch.where(draws.chance(0.5), draws.uniform(0, 0.1), draws.uniform(0.1, 0.5))
    level = wide(ground) + torch.where(inside, wide(contrast), 0.0)
    level = level + torch.where(inside, per_object(spread), 0.0)
    for edge, strength in ((height, 0.12), (height // 4, 0.12), (height // 14, 0.15)):
        within, around = wide(draws.uniform(0, strength)), wide(draws.uniform(0, strength))
        level = level + field(edge) * torch.where(inside, within, around)
    edges = _edges(ids)
    wall = _smooth(edges, 3) * wide(draws.uniform(-1.2, 1.2) * draws.chance(0.5))
    body = inside.float()
    halo = (_smooth(body, 7) - body) * wide(draws.uniform(-0.6, 0.6) * draws.chance(0.35))
    image = _smooth(level + wall + halo, 3).unsqueeze(1)
    low, high = image.flatten(1).amin(1), image.flatten(1).amax(1)
    image = (image - low.view(-1, 1, 1, 1)) / (high - low).clamp(min=1e-3).view(-1, 1, 1, 1)
    one, other = draws.uniform(0, 1, 3, 1, 1), draws.uniform(0, 1, 3, 1, 1)
    coloured = image * one + (1 - image) * other
    return torch.where(draws.chance(0.25).view(-1, 1, 1, 1), coloured, image.expand(-1, 3, -1, -1))


def _edges(ids: torch.Tensor) -> torch.Tensor:
    highest = functional.max_pool2d(ids[:, None], 3, 1, 1)[:, 0]
    lowest = -functional.max_pool2d(-ids[:, None], 3, 1, 1)[:, 0]
    return (highest != lowest).float()


def _smooth(maps: torch.Tensor, edge: int) -> torch.Tensor:
    pooled = functional.avg_pool2d(maps[:, None], edge, 1, edge // 2, count_include_pad=False)
    return functional.avg_pool2d(pooled, edge, 1, edge // 2, count_include_pad=False)[:, 0]
