"""Targets and losses where little is known: what is not known has no say at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unet_studio.models.card import ModelCard
from unet_studio.models.presets import new_model
from unet_studio.training.course import reach
from unet_studio.training.sparse_loss import (
    as_painted,
    contradicted,
    rehearsal_loss,
    sparse_loss,
    trust_loss,
)
from unet_studio.training.sparse_targets import sparse_targets
from unet_studio.training.targets import object_targets

REPRESENTATIONS = ("binary", "classes", "objects")


def card(representation: str) -> ModelCard:
    classes = ("background", "a", "b") if representation == "classes" else ("object",)
    return ModelCard(
        name="m",
        architecture="unet",
        in_channels=1,
        representation=representation,
        classes=classes,
    )


def two_disks(edge: int = 40) -> np.ndarray:
    """Two objects (2, 3) that touch, on known background (1)."""
    y, x = np.mgrid[:edge, :edge]
    labels = np.ones((edge, edge), np.int32)
    labels[np.hypot(y - 20, x - 12) < 8] = 2
    labels[np.hypot(y - 20, x - 27) < 8] = 3
    return labels


def test_where_all_is_known_targets_are_those_of_dense_labels():
    labels = two_disks()
    targets = sparse_targets(labels, "objects", card("objects"))
    inner = (slice(None), slice(1, -1), slice(1, -1))  # beyond the edge nothing is known
    assert targets.known[inner].all()
    assert np.allclose(targets.values[inner], object_targets(labels - 1)[inner])


def test_an_open_object_has_no_depth_and_its_open_side_no_edge():
    labels = two_disks()
    labels[:, 30:] = 0  # the right part was not annotated
    foreground, boundary, distance = sparse_targets(labels, "objects", card("objects")).known
    assert foreground[labels > 0].all()
    assert not foreground[labels == 0].any()
    assert distance[labels == 2].all()
    assert not distance[labels == 3].any()
    assert boundary[20, 19]  # between the two
    assert not boundary[20, 29]  # beside what is not known


def test_strokes_of_classes_say_nothing_of_edges_and_depths_of_foreground():
    labels = np.zeros((30, 30), np.int32)
    labels[5:9, 3:25] = 1
    labels[15:20, 3:25] = 2
    targets = sparse_targets(labels, "classes", card("objects"))
    _, boundary, distance = targets.known
    assert not boundary[labels == 2].any()
    assert not distance[labels == 2].any()
    assert distance[labels == 1].all()
    assert boundary[6:8, 4:24].all()  # within background there is no edge
    assert not targets.values[1:].any()


def test_background_beside_foreground_is_an_edge():
    labels = np.zeros((9, 9), np.int32)
    labels[:, 3], labels[:, 4] = 1, 2
    targets = sparse_targets(labels, "classes", card("objects"))
    assert targets.values[1][:, 3:5].all()
    assert targets.known[1][:, 3:5].all()


def test_classes_are_one_hot_and_objects_are_the_second_class():
    labels = np.array([[0, 1, 2, 3]], np.int32)
    targets = sparse_targets(labels, "classes", card("classes"))
    assert targets.values[:, 0].T.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert targets.known[:, 0].T.tolist() == [[False] * 3] + [[True] * 3] * 3
    assert sparse_targets(labels, "objects", card("classes")).values[1].tolist() == [[0, 0, 1, 1]]


def test_ids_may_be_huge():
    labels = two_disks().astype(np.int64)
    labels[labels == 3] = 2**31 - 1
    assert sparse_targets(labels, "objects", card("objects")).known.any()


def sparse_labels(representation: str, edge: int = 48) -> np.ndarray:
    labels = np.zeros((edge, edge), np.int32)
    labels[5:9, 5:20], labels[30:34, 8:30] = 1, 2
    if representation == "classes":
        labels[40:43, 20:40] = 3
    if representation == "objects":
        labels[33:36, 8:30] = 1
    return labels


def batch_of(labels: np.ndarray, representation: str) -> tuple[torch.Tensor, torch.Tensor]:
    mode = "objects" if representation == "objects" else "classes"
    targets = sparse_targets(labels, mode, card(representation))
    return torch.from_numpy(targets.values)[None], torch.from_numpy(targets.known)[None]


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_P23_what_is_not_known_has_exactly_no_gradient(representation):
    labels = sparse_labels(representation)
    values, known = batch_of(labels, representation)
    logits = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_(True)
    loss = sparse_loss(logits, values, known, representation)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[~known] == 0).all()
    assert (gradient[known] != 0).all()


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("junk", [100.0, float("inf"), float("nan")])
def test_P23_whatever_stands_where_nothing_is_known_changes_no_bit(representation, junk):
    values, known = batch_of(sparse_labels(representation), representation)
    logits = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    results = []
    for change in (False, True):
        tried, target = logits.clone(), values.clone()
        if change:
            tried[~known], target[~known] = junk, junk
        tried.requires_grad_(True)
        loss = sparse_loss(tried, target, known, representation)
        (gradient,) = torch.autograd.grad(loss, tried)
        results.append((loss.detach(), gradient))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_P23_the_loss_does_not_depend_on_how_much_is_not_known(representation):
    labels = sparse_labels(representation)
    wide = np.pad(labels, 60)
    logits = torch.randn(1, card(representation).out_channels, *labels.shape)
    small = sparse_loss(logits, *batch_of(labels, representation), representation)
    padded = torch.nn.functional.pad(logits, (60,) * 4, value=7.0)
    large = sparse_loss(padded, *batch_of(wide, representation), representation)
    assert float(large) == pytest.approx(float(small), abs=1e-6)


def test_P23_image_and_labels_beyond_the_receptive_field_change_no_weight():
    """The whole way: pixels that nothing annotated can see have no part in a gradient."""
    model = new_model("unet-tiny", representation="objects", classes=("cell",))
    edge = 256
    labels = np.zeros((edge, edge), np.int32)
    labels[4:8, 4:20], labels[12:16, 4:20] = 1, 2
    seen = 19 + reach(model.card)[1]
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, edge, edge, generator=generator)
    other = image.clone()
    other[..., seen + 1 :] = 5.0
    network = model.network.double().requires_grad_(True)
    values, known = batch_of(labels, "objects")
    grads = []
    for picture in (image, other):
        network.zero_grad()
        loss = sparse_loss(network(picture.double()), values, known, "objects")
        loss.backward()
        grads.append([p.grad.clone() for p in network.parameters()])
    largest = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*grads, strict=True))
    assert largest < 1e-6  # the loss itself is in float32
    near = image.clone()
    near[..., 20:40] = 5.0
    network.zero_grad()
    sparse_loss(network(near.double()), values, known, "objects").backward()
    assert any(
        float((p.grad - g).abs().max()) > 1e-3
        for p, g in zip(network.parameters(), grads[0], strict=True)
    )


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_F83_nothing_known_is_a_loss_of_0(representation):
    values, known = batch_of(np.zeros((16, 16), np.int32), representation)
    logits = torch.full(values.shape, 3.0, requires_grad=True)
    assert float(sparse_loss(logits, values, known, representation)) == 0.0


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_the_right_answer_has_the_least_loss(representation):
    values, known = batch_of(sparse_labels(representation), representation)
    right = sparse_loss(20 * (values - 0.5), values, known, representation)
    wrong = sparse_loss(-20 * (values - 0.5), values, known, representation)
    assert float(right) < 0.05 < 2 < float(wrong)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_what_is_likelier_in_strokes_is_found_as_often_as_it_is_there(representation):
    """Half of the strokes on a look that both classes have is the thing, a fifth of the image."""
    surplus = float(np.log(0.5 / 0.5) - np.log(0.2 / 0.8))
    channels = 2 if representation == "classes" else 3 if representation == "objects" else 1
    logits = torch.zeros((2, channels, 4, 4), requires_grad=True)
    painted = torch.zeros((2, channels, 4, 4))
    if representation == "classes":
        painted[0, 1], painted[1, 0] = 1, 1
    else:
        painted[0] = 1
    known = torch.ones(painted.shape, dtype=torch.bool)
    optimiser = torch.optim.Adam([bias := torch.zeros(channels, requires_grad=True)], 0.05)
    for _ in range(300):
        optimiser.zero_grad()
        now = as_painted(logits + bias[:, None, None], surplus, representation)
        sparse_loss(now, painted, known, representation).backward()
        optimiser.step()
    bias = bias.detach()
    found = bias.softmax(0)[1] if representation == "classes" else bias[0].sigmoid()
    assert 0.19 < float(found) < 0.35  # the Dice wants more of it than there is
    if representation == "objects":  # edges and depths are of what is found
        assert torch.equal(as_painted(logits, surplus, representation)[:, 1:], logits[:, 1:])


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_rehearsal_pulls_back_to_what_was_said_and_only_where_asked(representation):
    channels = card(representation).out_channels
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(1, channels, 12, 12, generator=generator)
    picked = torch.zeros(1, 12, 12, dtype=torch.bool)
    picked[:, :6] = True
    assert abs(float(rehearsal_loss(before, before, picked, representation))) < 1e-6
    now = (before + torch.randn(before.shape, generator=generator)).requires_grad_(True)
    loss = rehearsal_loss(now, before, picked, representation)
    (gradient,) = torch.autograd.grad(loss, now)
    assert loss.item() > 0.01
    assert (gradient[:, :, 6:] == 0).all()
    assert (gradient[:, :, :6] != 0).any()


def test_what_is_trusted_can_be_overruled_but_not_forgotten():
    """Bounded: the farther strokes have moved the network, the less it is pulled back."""

    def pull(logit, said):
        now = torch.full((1, 1, 1, 1), float(logit), requires_grad=True)
        picked = torch.ones((1, 1, 1), dtype=torch.bool)
        trust_loss(now, torch.full((1, 1, 1, 1), said), picked, "binary").backward()
        return abs(float(now.grad))

    assert pull(8.0, 1.0) < 0.01  # they agree
    assert pull(-8.0, 1.0) < 0.1 * pull(0.0, 1.0)  # strokes were clear
    assert pull(0.0, 0.5) == 0  # it does not know either


def test_a_large_background_is_no_louder_than_a_small_object():
    said = torch.zeros(1, 1, 20, 20)
    said[..., :2, :2] = 1.0
    picked = torch.ones(1, 20, 20, dtype=torch.bool)
    all_background = torch.full((1, 1, 20, 20), -9.0)
    nothing_learned = torch.zeros(1, 1, 20, 20)
    losing = float(trust_loss(all_background, said, picked, "binary"))
    unsure = float(trust_loss(nothing_learned, said, picked, "binary"))
    assert losing > unsure


def test_edges_of_what_is_not_believed_to_be_there_do_not_count():
    said = torch.tensor([0.99, 0.9, 0.5]).reshape(1, 3, 1, 1)
    picked = torch.ones(1, 1, 1, dtype=torch.bool)
    gone = torch.tensor([-9.0, 0.0, 0.0]).reshape(1, 3, 1, 1).requires_grad_()
    trust_loss(gone, said, picked, "objects").backward()
    there = torch.tensor([9.0, 0.0, 0.0]).reshape(1, 3, 1, 1).requires_grad_()
    trust_loss(there, said, picked, "objects").backward()
    assert float(gone.grad[0, 1].abs().sum()) < 1e-3
    assert float(there.grad[0, 1].abs().sum()) > 0.1


def test_what_is_trusted_reaches_no_painted_pixel_even_if_it_is_no_number():
    now = torch.zeros(1, 2, 2, 2)
    said = torch.full((1, 2, 2, 2), 0.5)
    said[..., 0, 0] = float("nan")
    picked = torch.ones(1, 2, 2, dtype=torch.bool)
    picked[:, 0, 0] = False
    assert torch.isfinite(trust_loss(now, said, picked, "classes"))


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_who_is_contradicted_by_a_stroke_is_not_asked_around_it(representation, ndim):
    shape = (1, 2 if representation == "classes" else 1, *(30,) * ndim)
    said, values = torch.zeros(shape), torch.zeros(shape)
    known = torch.zeros(shape, dtype=torch.bool)
    if representation == "classes":
        said[:, 0] = 1
    wrong, right = (10,) * ndim, (25,) * ndim
    values[(0, -1, *wrong)] = 1  # painted as foreground where background was said
    known[(0, slice(None), *wrong)] = True
    values[(0, 0, *right)] = float(representation == "classes")
    known[(0, slice(None), *right)] = True
    found = contradicted(said, values, known, representation)
    assert bool(found[(0, *wrong)])
    assert bool(found[(0, 12, *wrong[1:])])
    assert not bool(found[(0, 20, *wrong[1:])])
    assert not bool(found[(0, *right)])
