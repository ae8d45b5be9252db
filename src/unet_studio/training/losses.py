"""Losses, one function per output representation."""

from __future__ import annotations

import torch
from torch.nn import functional

# Thin structures are a few per cent of the pixels; without this weight
# "no boundary anywhere" is a comfortable local minimum.
_BOUNDARY_WEIGHT = 2.0


def soft_dice_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return one minus the soft Dice coefficient over the whole batch.

    Milletari et al. 2016 (arXiv:1606.04797). Taken over the batch, not per
    image, so that an empty crop does not dominate.

    Parameters
    ----------
    logits, target : tensor of float, same shape; target in [0, 1]
    """
    probability = logits.sigmoid()
    overlap = (probability * target).sum()
    return 1.0 - (2.0 * overlap + 1.0) / (probability.sum() + target.sum() + 1.0)


def objects_loss(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Loss of the ``objects`` representation.

    Cross entropy and Dice on foreground and boundary, cross entropy on the
    distance. The target of the last is no class but a number in [0, 1]; what
    minimises the cross entropy is then its mean. (An absolute error would be
    minimised by the median, which shows no valley at all between two objects
    until the network is more than half sure that they are two.)

    Parameters
    ----------
    logits, target : tensor of float, axes (N, 3, [Z,] Y, X)
        Target channels as made by :func:`~unet_studio.training.targets.object_targets`.
    weight : tensor of float, axes (N, [Z,] Y, X), optional
        How much each pixel counts in the cross entropies.
    """
    logits = logits.float()
    foreground, boundary, distance = target.unbind(1)
    if weight is None:
        weight = torch.ones_like(foreground)
    loss = functional.binary_cross_entropy_with_logits(logits[:, 0], foreground, weight)
    loss = loss + soft_dice_loss(logits[:, 0], foreground)
    loss = loss + functional.binary_cross_entropy_with_logits(
        logits[:, 1],
        boundary,
        weight,
        pos_weight=torch.tensor(_BOUNDARY_WEIGHT, device=logits.device),
    )
    loss = loss + soft_dice_loss(logits[:, 1], boundary)
    error = functional.binary_cross_entropy_with_logits(logits[:, 2], distance, reduction="none")
    # Half of the weight on objects, half on the background around them.
    for share, region in ((2.0, foreground > 0), (1.0, foreground <= 0)):
        counted = weight * region
        loss = loss + share * (error * counted).sum() / counted.sum().clamp(min=1)
    return loss


def classes_loss(
    logits: torch.Tensor, target: torch.Tensor, class_weights: torch.Tensor
) -> torch.Tensor:
    """Loss of the ``classes`` representation: cross entropy and Dice.

    Parameters
    ----------
    logits : tensor of float, axes (N, K, [Z,] Y, X)
    target : tensor of int64, axes (N, [Z,] Y, X)
        Class of each pixel, 0 to K - 1; -1 is not known and does not count.
    class_weights : tensor of float, axes (K,)
        How much a pixel of each class counts in the cross entropy.

    Returns
    -------
    tensor of float32, no axes
        0 where nothing is known: a mean over no pixels would be NaN.
    """
    logits = logits.float()
    known = target >= 0
    if not bool(known.any()):
        return logits.sum() * 0.0
    loss = functional.cross_entropy(logits, target, class_weights, ignore_index=-1)
    # Dice over the batch, of what is not background, and of known pixels only.
    probability = logits.softmax(1) * known.unsqueeze(1)
    truth = functional.one_hot(target.clamp(min=0), logits.shape[1]).movedim(-1, 1)
    truth = truth * known.unsqueeze(1)
    over = [d for d in range(logits.ndim) if d != 1]
    overlap = (probability * truth).sum(over)[1:]
    total = (probability.sum(over) + truth.sum(over))[1:]
    return loss + 1.0 - ((2.0 * overlap + 1.0) / (total + 1.0)).mean()
