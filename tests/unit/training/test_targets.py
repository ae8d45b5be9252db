"""What a network is taught: targets, losses, augmented crops."""

import numpy as np
import pytest
import torch

from unet_studio.training.augmentation import (
    Augmentation,
    change_appearance,
    log_uniform,
    random_crop,
)
from unet_studio.training.losses import objects_loss, soft_dice_loss
from unet_studio.training.targets import normalised_distance, object_targets, object_weights


def two_touching():
    labels = np.zeros((20, 30), np.uint16)
    labels[4:16, 3:15] = 1
    labels[4:16, 15:27] = 2
    return labels


def test_distance_peaks_at_one_in_small_and_large_objects():
    labels = np.zeros((60, 60), np.uint16)
    labels[2:7, 2:7] = 1
    labels[10:55, 10:55] = 2
    distance = normalised_distance(labels)
    assert distance[4, 4] == 1
    assert distance[32, 32] == 1
    assert (distance[labels == 0] == 0).all()
    assert (distance[labels > 0] > 0).all()


def test_touching_objects_have_a_valley_between_them():
    distance = normalised_distance(two_touching())
    row = distance[10, 3:27]
    assert row[11] < 0.3 * row.max()
    assert row[12] < 0.3 * row.max()


def test_boundary_runs_on_both_sides_of_every_edge():
    _, boundary, _ = object_targets(two_touching())
    assert boundary[10, 14] == boundary[10, 15] == 1  # between the two
    assert boundary[10, 2] == boundary[10, 3] == 1  # towards the background
    assert boundary[10, 9] == boundary[0, 0] == 0


@pytest.mark.parametrize("labels", [np.zeros((8, 8), int), np.ones((8, 8), int)])
def test_empty_and_full_images_give_finite_targets(labels):
    targets = object_targets(labels)
    assert np.isfinite(targets).all()
    assert (targets[0] == labels).all()


def test_one_pixel_objects_count():
    labels = np.zeros((9, 9), int)
    labels[4, 4] = 5
    assert normalised_distance(labels)[4, 4] == 1


def test_three_dimensions():
    labels = np.zeros((8, 12, 12), np.uint16)
    labels[2:6, 2:10, 2:10] = 3
    assert object_targets(labels).shape == (3, 8, 12, 12)


def logits_for(targets, confidence=8.0):
    probability = torch.from_numpy(targets).clamp(1e-3, 1 - 1e-3)
    logits = torch.logit(probability)
    logits[:2] = (torch.from_numpy(targets[:2]) * 2 - 1) * confidence
    return logits[None].requires_grad_()


def test_loss_prefers_the_truth():
    targets = object_targets(two_touching())
    expected = torch.from_numpy(targets)[None]
    logits = logits_for(targets)
    right = objects_loss(logits, expected)
    right.backward()
    # The cross entropy of a soft target is not 0 at its minimum, but flat.
    assert logits.grad[:, 2].abs().max() < 1e-4
    for channel in range(3):
        wrong = targets.copy()
        wrong[channel] = np.roll(targets[channel], 3, axis=1)
        assert objects_loss(logits_for(wrong), expected) > 1.3 * right, channel


def test_loss_is_finite_without_any_object():
    targets = torch.zeros(2, 3, 16, 16)
    logits = torch.zeros(2, 3, 16, 16, requires_grad=True)
    loss = objects_loss(logits, targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_dice_of_a_hand_computed_case():
    logits = torch.tensor([100.0, 100.0, -100.0, -100.0])
    target = torch.tensor([1.0, 0.0, 1.0, 0.0])
    # overlap 1, sums 2 and 2, one added above and below
    assert soft_dice_loss(logits, target).item() == pytest.approx(1 - 3 / 5)


def test_crops_keep_image_and_labels_together():
    """Pixels carry their own label as grey value, so any mismatch shows."""
    labels = torch.from_numpy(np.kron(np.arange(1, 26).reshape(5, 5), np.ones((16, 16), int)))
    image = labels[None].float() / 25
    calm = Augmentation(elastic=0)
    generator = torch.Generator().manual_seed(3)
    for _ in range(10):
        crop, ids = random_crop(image, labels, (40, 40), 64, calm, generator)
        assert crop.shape == (1, 64, 64)
        assert ids.dtype == torch.int64
        agree = (crop[0] * 25 - ids).abs() < 1e-3
        assert agree.float().mean() > 0.6  # all but what bilinear reading mixes at edges
        assert set(ids.unique().tolist()) <= set(range(1, 26))


def test_ids_survive_beyond_single_precision():
    labels = torch.full((32, 32), 2**24 + 1)
    generator = torch.Generator().manual_seed(0)
    _, ids = random_crop(torch.zeros(1, 32, 32), labels, (16, 16), 16, Augmentation(), generator)
    assert set(ids.unique().tolist()) == {2**24 + 1}


def test_the_same_seed_gives_the_same_crop():
    image = torch.rand(3, 50, 50)
    labels = torch.randint(0, 4, (50, 50))

    def draw():
        generator = torch.Generator().manual_seed(11)
        crop, ids = random_crop(image, labels, (25, 25), 32, Augmentation(), generator)
        return change_appearance(crop, Augmentation(), generator), ids

    first, second = draw(), draw()
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_appearance_keeps_shape_and_grey_stays_grey():
    grey = torch.rand(1, 40, 40).expand(3, -1, -1)
    wild = Augmentation(appearance=1.0, recolour=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        changed = change_appearance(grey, wild, generator)
        assert changed.shape == (3, 40, 40)
        assert torch.isfinite(changed).all()
        assert torch.equal(changed[0], changed[1])


def test_log_uniform_is_even_both_ways():
    generator = torch.Generator().manual_seed(0)
    draws = [log_uniform(generator, 2.0) for _ in range(2000)]
    assert 0.5 <= min(draws) < 0.52
    assert 1.95 < max(draws) <= 2.0
    assert np.mean(np.array(draws) > 1) == pytest.approx(0.5, abs=0.05)


def test_small_objects_and_gaps_weigh_more():
    labels = np.zeros((60, 80), np.int64)
    labels[4:8, 4:8] = 1  # small
    labels[20:50, 10:38] = 2
    labels[20:50, 40:70] = 3  # two pixels beside the former
    weights = object_weights(labels)
    assert weights[6, 6] == pytest.approx((300 / 16) ** 0.5)
    assert weights[35, 20] == 1
    assert weights[35, 38] == weights[35, 39] == 5
    assert weights[55, 75] == 1


def test_weights_of_an_empty_image_are_one():
    assert (object_weights(np.zeros((8, 8), np.int64)) == 1).all()


def test_weighted_pixels_count_in_the_loss():
    targets = torch.from_numpy(object_targets(two_touching()))[None]
    logits = torch.zeros_like(targets)
    logits[..., :10, :] = 3.0  # wrong in the upper half of the background
    even = objects_loss(logits, targets, torch.ones(1, 20, 30))
    assert even == objects_loss(logits, targets)
    upper = torch.ones(1, 20, 30)
    upper[:, :10] = 4
    assert objects_loss(logits, targets, upper) > even
