"""Losses: what they reward, and what they must not look at."""

import torch

from unet_studio.training.losses import classes_loss

WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


def example(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 8, 8, generator=generator)
    target = torch.randint(0, 3, (2, 8, 8), generator=generator)
    return logits, target


def test_the_truth_costs_next_to_nothing_and_the_contrary_much():
    _, target = example()
    right = torch.nn.functional.one_hot(target, 3).movedim(-1, 1) * 40.0
    assert float(classes_loss(right, target, WEIGHTS)) < 1e-3
    assert float(classes_loss(-right, target, WEIGHTS)) > 10


def test_unknown_pixels_change_neither_loss_nor_gradient():
    logits, target = example()
    target[:, :4] = -1
    grads = []
    for shift in (0.0, 5.0):
        changed = logits.clone()
        changed[:, 1, :4] += shift
        changed.requires_grad_(True)
        loss = classes_loss(changed, target, WEIGHTS)
        loss.backward()
        grads.append((float(loss.detach()), changed.grad))
    assert grads[0][0] == grads[1][0]
    assert torch.equal(grads[0][1], grads[1][1])
    assert not grads[0][1][:, :, :4].any()


def test_nothing_known_is_no_loss_and_no_gradient():
    logits, target = example()
    logits.requires_grad_(True)
    loss = classes_loss(logits, torch.full_like(target, -1), WEIGHTS)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not logits.grad.any()
