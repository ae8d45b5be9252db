"""The watershed takes apart what touches, and only that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.measure import label as components_of

from unet_studio.objects.evaluation import evaluate, pool
from unet_studio.objects.watershed import WatershedOptions, watershed
from unet_studio.training.targets import object_targets

DEFAULTS = WatershedOptions()


def balls(shape, centres, radius):
    """Balls (discs) cut from each other halfway between their centres."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    distances = np.stack(
        [
            np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
            for centre in centres
        ]
    )
    return np.where(distances.min(0) <= radius, distances.argmin(0) + 1, 0).astype(np.int32)


def run(labels, options=DEFAULTS, blur=0.0, noise=0.0):
    targets = np.stack([ndimage.gaussian_filter(t, blur) for t in object_targets(labels)])
    random = np.random.default_rng(0).standard_normal(targets.shape)
    shaken = np.clip(targets + noise * random, 0, 1)
    return watershed(shaken.astype(np.float16), options, "objects")


@pytest.mark.parametrize(
    ("shape", "centres", "radius"),
    [
        ((40, 60), [(20, 18), (20, 38)], 12),
        ((60, 60), [(20, 20), (20, 38), (36, 29)], 11),
        ((30, 40, 40), [(15, 20, 12), (15, 20, 27)], 9),
    ],
    ids=["two discs", "three discs", "two balls"],
)
def test_touching_objects_come_apart(shape, centres, radius):
    truth = balls(shape, centres, radius)
    assert components_of(truth > 0).max() == 1, "the test needs objects that touch"
    for blur, noise in [(0, 0), (1, 0), (1, 0.05)]:
        found = run(truth, blur=blur, noise=noise)
        scores = evaluate(found, truth)
        assert scores.found == len(centres)
        assert scores.ap(0.8) == 1, f"blur {blur}, noise {noise}"


def test_one_object_stays_one_whatever_the_noise():
    truth = balls((60, 60), [(30, 30)], 20)
    found = run(truth, blur=1, noise=0.1)
    assert len(np.unique(found[found > 0])) == 1


def test_a_shallow_valley_splits_only_on_request():
    x = np.linspace(0, 6 * np.pi, 120)
    height = 0.7 - 0.1 * np.cos(x)  # valleys 0.2 deep between three summits
    probabilities = np.zeros((3, 21, 120), np.float32)
    probabilities[0, 3:18] = 1
    probabilities[2, 3:18] = height
    for depth, expected in [(0.1, 3), (0.3, 1)]:
        options = WatershedOptions(split_depth=depth, smoothing=0)
        found = watershed(probabilities, options, "objects")
        assert len(np.unique(found[found > 0])) == expected, depth


def test_boundary_can_split_where_distance_does_not():
    probabilities = np.zeros((3, 20, 40), np.float32)
    probabilities[0, 2:18, 2:38] = 1
    probabilities[2, 2:18, 2:38] = 0.8
    probabilities[1, :, 19:21] = 1
    with_it, without = (
        watershed(probabilities, WatershedOptions(boundary_weight=w), "objects").max()
        for w in (1.0, 0.0)
    )
    labels = watershed(probabilities, WatershedOptions(boundary_weight=1.0), "objects")
    assert len(np.unique(labels[labels > 0])) == 2
    assert with_it > without == 1


def test_an_object_without_any_depth_is_kept():
    probabilities = np.zeros((3, 20, 20), np.float32)
    probabilities[0, 5:15, 5:15] = 1  # neither boundary nor distance seen
    found = watershed(probabilities, DEFAULTS, "objects")
    np.testing.assert_array_equal(found > 0, probabilities[0] > 0)


def test_holes_are_filled_per_object():
    truth = balls((40, 60), [(20, 18), (20, 38)], 12)
    probabilities = object_targets(truth)
    probabilities[0, 19:22, 12:15] = 0
    found = watershed(probabilities, DEFAULTS, "objects")
    assert evaluate(found, truth).ap(0.95) == 1
    open_ = watershed(probabilities, WatershedOptions(fill_holes=False), "objects")
    assert (open_[19:22, 12:15] == 0).all()


def test_min_size_and_faint_objects():
    probabilities = np.zeros((3, 30, 60), np.float32)
    for left, size, foreground in [(2, 3, 1.0), (15, 10, 0.6), (40, 10, 1.0)]:
        block = (slice(5, 5 + size), slice(left, left + size))
        probabilities[0][block], probabilities[2][block] = foreground, 0.8

    def kept(**options):
        found = watershed(probabilities, WatershedOptions(**options), "objects")
        return [bool(found[6, x]) for x in (3, 20, 45)]

    assert kept(min_size=9, min_confidence=0) == [True, True, True]
    assert kept(min_size=10, min_confidence=0) == [False, True, True]
    assert kept(min_size=9, min_confidence=0.3) == [True, False, True]
    # 0.6 is far above a threshold of 0.1: the same option then keeps it.
    assert kept(min_size=9, min_confidence=0.3, threshold=0.1) == [True, True, True]


def test_pieces_far_from_the_crowd_are_not_lost():
    truth = balls((120, 60), [(15, 18), (15, 36), (60, 30), (105, 40)], 11)
    assert evaluate(run(truth), truth).ap(0.8) == 1


def test_a_mirror_image_gives_the_mirrored_objects():
    truth = balls((60, 60), [(20, 20), (20, 38), (36, 29)], 11)
    plain = run(truth, blur=1)
    mirrored = run(truth[:, ::-1].copy(), blur=1)[:, ::-1]
    assert evaluate(plain, mirrored).ap(0.9) == 1


@pytest.mark.parametrize(
    ("options", "least"),
    [
        # What a network predicts is blurred, its valleys are shallow: the defaults look
        # for those. The valleys of perfect targets are deep, and a lobe makes a shallow one.
        (DEFAULTS, 0.98),
        (WatershedOptions(split_depth=0.3, smoothing=0.75), 0.99),
    ],
    ids=["defaults", "deep valleys"],
)
@pytest.mark.parametrize("dataset", ["dsb2018_fluo", "dsb2018_histology"])
def test_real_nuclei_are_recovered_from_perfect_targets(
    shared_data: Path, dataset, options, least
):
    every = []
    for path in sorted((shared_data / dataset / "train" / "masks").glob("*.png"))[::3]:
        truth = components_of(np.asarray(Image.open(path)).astype(np.int32), connectivity=1)
        sizes = np.bincount(truth.ravel())
        truth[sizes[truth] < options.min_size] = 0  # chips of overlapping nuclei
        every.append(evaluate(run(truth, options), truth))
    scores = pool(every)
    assert scores.truth > 500
    assert scores.ap(0.5) > least
    assert scores.ap(0.8) > least - 0.03
