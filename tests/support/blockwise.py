"""Objects made block by block and at once, and what they are made of."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from unet_studio.events import drain
from unet_studio.objects.blockwise import label_blocks
from unet_studio.objects.cleaning import scan_order
from unet_studio.objects.methods import METHODS, parse_options
from unet_studio.recipe import ObjectsMethod
from unet_studio.training.targets import object_targets

SETTINGS = {
    "watershed": ("watershed", "objects", {}),
    "watershed, raw": (
        "watershed",
        "objects",
        {"smoothing": 0, "split_depth": 0.02, "min_size": 2, "min_confidence": 0},
    ),
    "watershed, boundaries": (
        "watershed",
        "objects",
        {"smoothing": 2.3, "boundary_weight": 1, "min_confidence": 0.7, "fill_holes": False},
    ),
    "components": ("components", "binary", {}),
    "components, diagonal": ("components", "binary", {"diagonal": True, "min_size": 0}),
    "components, open": ("components", "objects", {"fill_holes": False, "min_size": 4}),
    "components, classes": ("components", "classes", {}),
    "components, classes, diagonal": (
        "components",
        "classes",
        {"diagonal": True, "min_size": 0},
    ),
    "threshold": ("threshold", "binary", {}),
    "threshold, cleaned": ("threshold", "objects", {"min_size": 12, "fill_holes": True}),
    "argmax": ("argmax", "classes", {"min_probability": 0.4}),
}


def whole(probabilities, method, representation):
    """What run_objects makes of a single frame."""
    chosen = METHODS.load(method.method)
    labels = chosen.function(probabilities, parse_options(method), representation)
    return scan_order(labels)[0] if chosen.makes_objects else labels


def by_blocks(probabilities, method, representation, block, **more):
    output = np.zeros(probabilities.shape[1:], np.uint32)
    result = drain(
        label_blocks(probabilities, output, method, representation, block=block, **more)
    )
    return output, result


def assert_same(probabilities, setting, block):
    name, representation, options = SETTINGS[setting]
    method = ObjectsMethod(method=name, options=options)
    expected = whole(probabilities, method, representation)
    labels, result = by_blocks(probabilities, method, representation, block)
    np.testing.assert_array_equal(labels, expected)
    assert result.count == expected.max(initial=0)
    assert not result.warnings
    if METHODS.load(name).makes_objects:
        np.testing.assert_array_equal(result.sizes, np.bincount(expected.ravel())[1:])
        centres = ndimage.center_of_mass(expected > 0, expected, range(1, result.count + 1))
        np.testing.assert_allclose(result.centroids, np.reshape(centres, (-1, expected.ndim)))


def probabilities_of(objects, representation):
    """What a perfect network says about labelled objects."""
    if representation == "objects":
        return object_targets(objects).astype(np.float16)
    if representation == "binary":
        return (objects > 0)[None].astype(np.float16)
    kinds = np.where(objects > 0, 1 + objects % 2, 0)  # neighbours of another class
    return np.stack([kinds == k for k in range(3)]).astype(np.float16)


def noise(shape, representation, seed):
    """Clumps of all sizes, with depth and holes."""
    random = np.random.default_rng(seed)
    channels = []
    for _ in range(1 if representation == "binary" else 3):
        field = ndimage.gaussian_filter(random.standard_normal(shape), random.uniform(0.8, 3))
        field -= np.quantile(field, 0.02)
        channels.append(np.clip(field / max(np.quantile(field, 0.98), 1e-3), 0, 1))
    return np.stack(channels).astype(np.float16)


def packed_objects(shape=(90, 100), count=60, seed=0):
    """Cells that fill the picture, as a Voronoi diagram, some removed."""
    random = np.random.default_rng(seed)
    seeds = np.zeros(shape, int)
    seeds[tuple(random.integers(0, n, count) for n in shape)] = 1
    seeds, found = ndimage.label(seeds)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)[1]
    objects = seeds[tuple(nearest)]
    return np.where(np.isin(objects, random.permutation(found)[: found // 3]), 0, objects)
