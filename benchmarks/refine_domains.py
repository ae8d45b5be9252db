"""The sets on which refining is measured: planes to paint on, planes to be judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Domain:
    """One set.

    Attributes
    ----------
    name, title : str
    base : str
        Model to start from.
    classes : tuple of str or None
        Of a new last layer; None keeps the model's own.
    wanted : int
        Class of the model's output that is scored.
    truth : tuple of int
        Values of the set's masks that are the thing to find.
    train, val : int
        How many images are painted on and judged on.
    """

    name: str
    title: str
    base: str
    classes: tuple[str, ...] | None
    truth: tuple[int, ...]
    train: int = 8
    val: int = 3


DOMAINS = {
    d.name: d
    for d in (
        Domain("ctc_phc_c2dl_psc", "cells, phase contrast", "nuclei", None, (1,)),
        Domain("isbi2012_em", "membranes, EM", "em-membranes", None, (1,), 6, 4),
        Domain("vnc_sstem_multiclass", "mitochondria, EM", "nuclei", ("mitochondrion",), (2,), 6),
        Domain("lgg_mri_slices", "glioma, MRI", "nuclei", ("lesion",), (1,), 12, 12),
        Domain("msd_hippocampus_3d", "hippocampus, MRI", "nuclei", ("hippocampus",), (1, 2), 4, 6),
    )
}


@dataclass(frozen=True, eq=False)
class Item:
    """An image and its truth.

    Attributes
    ----------
    image : array, axes (Y, X), (Y, X, C) or (Z, Y, X)
    truth : array of bool, axes ([Z,] Y, X)
    axes : str
        Of the image.
    """

    image: NDArray[Any]
    truth: NDArray[np.bool_]
    axes: str


def read_items(data: Path, domain: Domain, part: str) -> list[Item]:
    """Read an even choice of the images of one part ("train" or "val")."""
    folder = data / domain.name / part / "images"
    paths = sorted(folder.iterdir())
    if domain.name == "lgg_mri_slices":  # most slices show nothing
        paths = [p for p in paths if _mask(p).max() > 0] or paths
    count = domain.train if part == "train" else domain.val
    picked = np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)
    return [_read(paths[i], domain) for i in picked]


def _mask(path: Path) -> NDArray[Any]:
    other = path.parent.parent / "masks" / path.name
    if path.name.endswith((".nii", ".nii.gz")):
        import nibabel

        return np.asarray(nibabel.load(other).dataobj).T
    return np.asarray(Image.open(other))


def _read(path: Path, domain: Domain) -> Item:
    truth = np.isin(_mask(path), domain.truth)
    if path.name.endswith((".nii", ".nii.gz")):
        import nibabel

        return Item(np.ascontiguousarray(np.asarray(nibabel.load(path).dataobj).T), truth, "ZYX")
    image = np.asarray(Image.open(path))
    return Item(image, truth, "YXC" if image.ndim == 3 else "YX")
