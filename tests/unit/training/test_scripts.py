"""The scripts that train the bundled models show them what the product will show them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from unet_studio.clicks.encoding import disks, scale_intensities
from unet_studio.models.model import load_model
from unet_studio.training.targets import object_targets, object_weights

SCRIPTS = Path(__file__).parents[3] / "training"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture
def ids():
    found = np.zeros((64, 64), np.int64)
    found[5:30, 6:40] = 1
    found[30:50, 10:44] = 2  # touches the first
    found[40:60, 46:63] = 3  # with a gap of two pixels
    return found


def test_click_training_scales_and_marks_as_the_session_does(scripts):
    import train_clicks

    spec = load_model("clicks").card.clicks
    assert (spec.edge, spec.radius) == (train_clicks.EDGE, train_clicks.RADIUS)
    rng = np.random.default_rng(0)
    crop = rng.gamma(2, 40, (3, spec.edge, spec.edge)).astype(np.float32)
    trained = train_clicks.normalised(torch.from_numpy(crop)[None])[0].numpy()
    np.testing.assert_allclose(trained, scale_intensities(crop, spec.low, spec.high), atol=1e-5)
    points = torch.tensor([[[10.0, 20.0], [0.0, 159.0], [float("nan")] * 2]])
    clicks = train_clicks.Clicks(points, points[:, :1])
    expected = disks(points[0, :2].numpy(), spec.edge, spec.radius)
    np.testing.assert_array_equal(clicks.maps()[0, 0].numpy(), expected)


def test_targets_made_on_the_device_are_those_of_the_package(scripts, ids):
    import train_nuclei

    nearest, smooth = (torch.from_numpy(m) for m in train_nuclei.object_maps(ids))
    found = train_nuclei.targets_of(nearest[:1], smooth)[0].numpy()
    np.testing.assert_allclose(found, object_targets(ids), atol=1e-6)
    weights = train_nuclei.weights_of(nearest[:1], nearest[1:])[0].numpy()
    np.testing.assert_allclose(weights, object_weights(ids), atol=1e-5)


def test_a_crop_that_is_not_moved_is_the_image(scripts, ids):
    import batched
    from unet_studio.training.augmentation import Augmentation

    image = np.random.default_rng(0).random((3, 64, 64)).astype(np.float32)
    labels = torch.from_numpy(ids.astype(np.float32))[None]
    stack = batched.stack_images(
        [torch.from_numpy(image)], [labels], [labels], torch.device("cpu")
    )
    still = Augmentation(zoom=(1, 1), stretch=0, elastic=0)
    draws = batched.Draws(8, torch.Generator().manual_seed(0))
    positions = batched.coordinates(torch.full((8, 2), 31.5), torch.ones(8), 64, still, draws)
    images, nearest, _ = batched.read_crops(
        stack, torch.zeros(8, dtype=torch.long), positions, torch.ones(8)
    )
    # Turned and mirrored at random: what stays is that labels lie on their pixels.
    one = torch.from_numpy(ids == 1)
    expected = torch.from_numpy(image)[:, one].mean()
    middle = (slice(None), slice(10, 54), slice(10, 54))
    for crop, its in zip(images, nearest[:, 0], strict=True):
        assert crop.shape == (3, 64, 64)
        assert set(its[middle[1:]].unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}
        assert abs(crop[:, its == 1].mean() - expected) < 0.05
    again = batched.coordinates(
        torch.full((8, 2), 31.5),
        torch.ones(8),
        64,
        still,
        batched.Draws(8, torch.Generator().manual_seed(0)),
    )
    assert torch.equal(again, positions)


def test_the_same_seed_draws_the_same_clicks(scripts, ids):
    import train_clicks

    mask = torch.zeros(2, 160, 160)
    mask[:, 40:90, 50:120] = 1
    simulation = train_clicks.Simulation.__new__(train_clicks.Simulation)
    drawn = []
    for _ in range(2):
        simulation.generator = torch.Generator().manual_seed(3)
        clicks = simulation.first_clicks(mask, mask)
        clicks = simulation.correct(clicks, mask, mask, torch.zeros_like(mask))
        drawn.append(clicks)
    assert torch.equal(drawn[0].positive.nan_to_num(-1), drawn[1].positive.nan_to_num(-1))
    added = drawn[0].positive[:, -1]
    assert bool((mask[0, added[:, 0].long(), added[:, 1].long()] > 0).any())
    assert drawn[0].negative[:, -1].isnan().all(), "what is missed is clicked, not forbidden"


def test_batches_hold_every_crop_once_and_with_its_own(scripts):
    import batched

    numbers = torch.arange(12)
    pictures = numbers.view(-1, 1, 1).expand(12, 2, 2)
    found = batched.split_batches((numbers, pictures), 3, torch.Generator().manual_seed(0))
    assert len(found) == 4
    assert all(torch.equal(own[:, 0, 0], ids) for ids, own in found)
    order = torch.cat([ids for ids, _ in found])
    assert torch.equal(order.sort().values, numbers)
    assert not torch.equal(order, numbers)
