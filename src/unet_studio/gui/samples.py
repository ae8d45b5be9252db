"""File > Open Sample > U-Net Studio."""

from __future__ import annotations

from typing import Any

import numpy as np

from unet_studio.samples import find_sample, read_sample


def layer_data(name: str) -> list[tuple[Any, dict[str, Any], str]]:
    """Return a sample as napari layer data: image, with its name, pixel size and axes.

    Parameters
    ----------
    name : str
        Key of :data:`unet_studio.samples.SAMPLES`.
    """
    sample = find_sample(name)
    image = read_sample(name)
    keywords: dict[str, Any] = {
        "name": sample.name.replace("_", " "),
        "rgb": sample.rgb,
        "scale": sample.scale,
        "units": (sample.unit,) * len(sample.scale),
        "axis_labels": tuple(sample.axes.replace("C", "").lower()),
        "metadata": {"source": sample.source, "licence": sample.licence},
    }
    if not sample.rgb:  # napari shows 8-bit images over their full range: nearly black
        low, high = np.percentile(image, [1, 99.8])
        keywords["contrast_limits"] = (float(low), float(max(high, low + 1)))
    return [(image, keywords, "image")]


def nuclei_fluorescence() -> list[Any]:
    """Open the fluorescence nuclei."""
    return layer_data("nuclei_fluorescence")


def nuclei_clusters() -> list[Any]:
    """Open the dim and touching fluorescence nuclei."""
    return layer_data("nuclei_clusters")


def tissue_histology() -> list[Any]:
    """Open the stained tissue."""
    return layer_data("tissue_histology")


def cells_brightfield() -> list[Any]:
    """Open the bright-field cells."""
    return layer_data("cells_brightfield")


def membranes_em() -> list[Any]:
    """Open the electron micrograph."""
    return layer_data("membranes_em")


def nuclei_stack() -> list[Any]:
    """Open the confocal stack."""
    return layer_data("nuclei_stack")
