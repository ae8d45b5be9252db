"""Losses that see the pixels that were annotated, and no other.

A pixel that is not known is left out by selection, not by a factor of 0: its value,
be it infinite, reaches neither the loss nor a gradient.
"""

from __future__ import annotations

import torch
from torch.nn import functional

# As in training from dense labels: thin structures would not be learned without.
_CHANNEL_WEIGHTS = {"objects": (1.0, 1.0, 1.0), "binary": (1.0,)}
_BOUNDARY = 1
_BOUNDARY_WEIGHT = 2.0
# Between cross entropy (0), which noise overwhelms, and the absolute error (1), which
# learns slowly.
_BOUND = 0.7
# An error is larger than the stroke on it: so far around, in pixels, nothing is asked of who
# made it.
_AROUND_ERRORS = 6
# Bent with its image, what was accepted fades at its edges: probabilities add up to less than 1.
_ACCEPTED = 0.99


def sparse_loss(
    logits: torch.Tensor, values: torch.Tensor, known: torch.Tensor, representation: str
) -> torch.Tensor:
    """Return cross entropy and Dice over known pixels.

    The partial cross entropy of Tang et al. 2018 (arXiv:1804.01346) with a Dice
    (Milletari et al. 2016, arXiv:1606.04797) over the same pixels. Both are means, so
    neither depends on how many pixels are not known.

    Parameters
    ----------
    logits, values : tensor of float, axes (N, C, [Z,] Y, X)
        ``values`` as of :func:`~unet_studio.training.sparse_targets.sparse_targets`.
    known : tensor of bool, same shape
    representation : {"binary", "classes", "objects"}

    Returns
    -------
    tensor of float32, no axes
        0 where nothing is known.
    """
    logits = logits.float()
    if representation == "classes":
        return _classes(logits, values, known[:, 0])
    loss = logits.new_zeros(())
    for channel, weight in enumerate(_CHANNEL_WEIGHTS[representation]):
        picked = known[:, channel]
        if not bool(picked.any()):
            continue
        chosen, target = logits[:, channel][picked], values[:, channel][picked]
        emphasis = _BOUNDARY_WEIGHT if channel == _BOUNDARY else 1.0
        loss = loss + weight * functional.binary_cross_entropy_with_logits(
            chosen, target, pos_weight=torch.tensor(emphasis, device=logits.device)
        )
        if channel <= _BOUNDARY:
            loss = loss + weight * _dice(chosen.sigmoid(), target)
    return loss


def _dice(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    overlap = (probability * target).sum()
    return 1.0 - (2.0 * overlap + 1.0) / (probability.sum() + target.sum() + 1.0)


def _classes(logits: torch.Tensor, values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    if not bool(known.any()):
        return logits.new_zeros(())
    chosen = logits.movedim(1, -1)[known]  # (pixels, C)
    target = values.movedim(1, -1)[known]
    loss = functional.cross_entropy(chosen, target)
    probability = chosen.softmax(1)
    overlap = (probability * target).sum(0)
    total = probability.sum(0) + target.sum(0)
    # Of classes that were painted in this batch; the rest would only be pressed down.
    painted = target.sum(0) > 0
    painted[0] = False
    if not bool(painted.any()):
        return loss
    return loss + 1.0 - ((2.0 * overlap + 1.0) / (total + 1.0))[painted].mean()


def as_painted(logits: torch.Tensor, surplus: float, representation: str) -> torch.Tensor:
    """Return logits as they would be if there were as much of a thing as was painted of it.

    What is learned from has about as much of a thing as of the background, and a network that
    learns from it finds too much of what is rare. Compare these logits instead of its own, and
    its own are right for images (logit adjustment: Menon et al. 2021, arXiv:2007.07314).

    Parameters
    ----------
    logits : tensor of float, axes (N, C, [Z,] Y, X)
    surplus : float
        Log-odds of all but the background in what is learned from, less those in images.
    representation : {"binary", "classes", "objects"}

    Returns
    -------
    tensor of float32, same axes
        Of objects boundary and distance stay as they are.
    """
    if not surplus:
        return logits
    shift = logits.new_zeros((1, logits.shape[1], *(1,) * (logits.ndim - 2)), dtype=torch.float32)
    things = slice(1, None) if representation == "classes" else slice(0, 1)
    shift[:, things] = surplus
    return logits.float() + shift


def rehearsal_loss(
    logits: torch.Tensor, before: torch.Tensor, picked: torch.Tensor, representation: str
) -> torch.Tensor:
    """Return how far the network has left what it said before.

    Cross entropy with the old model's probabilities as soft targets, less their own
    entropy, so that it is 0 for the old model: Li & Hoiem 2016, learning without
    forgetting (arXiv:1606.09282).

    Parameters
    ----------
    logits, before : tensor of float, axes (N, C, [Z,] Y, X)
        Of the network, and of the model that it started from.
    picked : tensor of bool, axes (N, [Z,] Y, X)
        Pixels to compare: those that were not painted.
    representation : {"binary", "classes", "objects"}
    """
    if not bool(picked.any()):
        return logits.new_zeros(())
    now, old = logits.float().movedim(1, -1)[picked], before.float().movedim(1, -1)[picked]
    if representation == "classes":
        return functional.kl_div(
            now.log_softmax(1), old.log_softmax(1), log_target=True, reduction="batchmean"
        )
    soft = old.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(old, soft)
    return functional.binary_cross_entropy_with_logits(now, soft) - entropy


def trust_loss(
    now: torch.Tensor,
    said: torch.Tensor,
    picked: torch.Tensor,
    representation: str,
    foreground_only: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return how far the network is from what another says, as far as that is credible.

    The generalised cross entropy of Zhang & Sabuncu 2018 (arXiv:1805.07836),
    (1 - p^q) / q with q = 0.7, where p is the probability of what the other says: it is
    bounded, so where strokes have moved the network far away it is not pulled back.
    Weighted with how sure the other is; a mean over its classes, so that the background
    is not louder for being larger.

    Parameters
    ----------
    now : tensor of float, axes (N, C, [Z,] Y, X)
        Logits of the network.
    said : tensor of float, same shape
        Probabilities; all 0 where the other has nothing to say.
    picked : tensor of bool, axes (N, [Z,] Y, X)
        Pixels to compare: those that were not painted.
    representation : {"binary", "classes", "objects"}
    foreground_only : tensor of bool, same axes as ``picked``, optional
        Of objects: where edge and depth are not compared.
    """
    if not bool(picked.any()):
        return now.new_zeros(())
    logits, soft = now.float().movedim(1, -1)[picked], said.float().movedim(1, -1)[picked]
    if representation == "classes":
        best, kind = soft.max(1)
        agreeing = logits.softmax(1).gather(1, kind[:, None])[:, 0]
        loss = (2 * best - 1).clamp(min=0) * _bounded(agreeing)
    else:
        kind = (soft[:, 0] > 0.5).long()
        probability = logits[:, 0].sigmoid()
        agreeing = torch.where(kind > 0, probability, 1 - probability)
        loss = (2 * soft[:, 0] - 1).abs() * _bounded(agreeing)
        if soft.shape[1] > 1:
            # Edge and depth of what is not thought to be there mean nothing.
            heard = agreeing.detach()
            if foreground_only is not None:
                heard = heard * ~foreground_only[picked]
            loss = loss + heard * _apart(logits[:, 1:], soft[:, 1:])
    return torch.stack([loss[kind == k].mean() for k in torch.unique(kind)]).mean()


def guess_loss(
    logits: torch.Tensor, guess: torch.Tensor, picked: torch.Tensor, representation: str
) -> torch.Tensor:
    """Return how far the network is from a guess of which there is more than of strokes.

    Cross entropy and Dice with the guess's probabilities as soft targets, as in distilling one
    model into another (Hinton et al. 2015, arXiv:1503.02531). Each pixel counts the same, so
    that what is rare is learned to be rare; without the Dice a new last layer would then say
    background of everything.

    Parameters
    ----------
    logits : tensor of float, axes (N, C, [Z,] Y, X)
    guess : tensor of float, same shape
        Probabilities.
    picked : tensor of bool, axes (N, [Z,] Y, X)
        Pixels to compare: those that were guessed at and not painted.
    representation : {"binary", "classes", "objects"}
        Of objects and of one class the first channel alone is compared.

    Returns
    -------
    tensor of float32, no axes
        0 where nothing is picked.
    """
    if not bool(picked.any()):
        return logits.new_zeros(())
    chosen, target = logits.float().movedim(1, -1)[picked], guess.float().movedim(1, -1)[picked]
    if representation == "classes":
        probability, cross = chosen.softmax(1)[:, 1:], functional.cross_entropy(chosen, target)
        soft = target[:, 1:]
    else:
        probability, soft = chosen[:, :1].sigmoid(), target[:, :1]
        cross = functional.binary_cross_entropy_with_logits(chosen[:, :1], soft)
    overlap, total = (probability * soft).sum(0), (probability + soft).sum(0)
    return cross + 1.0 - ((2.0 * overlap + 1.0) / (total + 1.0)).mean()


def _apart(logits: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """Return the divergence of probabilities from soft targets, summed over channels."""
    cross = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    own = functional.binary_cross_entropy(soft, soft, reduction="none")
    return (cross - own).sum(1)


def _bounded(agreeing: torch.Tensor) -> torch.Tensor:
    return (1 - agreeing.clamp(min=1e-4) ** _BOUND) / _BOUND


def corrected_word(
    word: torch.Tensor, accepted: torch.Tensor | None, representation: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what an old model says, but for what was accepted of one that was corrected.

    Parameters
    ----------
    word : tensor of float, axes (N, C, [Z,] Y, X)
        Probabilities of the old model.
    accepted : tensor of float or None, axes (N, K, [Z,] Y, X)
        Probabilities of the classes, background first, 0 for all where nothing was accepted.
    representation : {"binary", "classes", "objects"}

    Returns
    -------
    tensor of float, axes (N, C, [Z,] Y, X)
    tensor of bool, axes (N, [Z,] Y, X)
        Where the old model is thought to be wrong. Of edge and depth of an object it knows
        nothing there; what the corrected model makes of them is not asked: taught from one model
        to the next they spoil (measured in benchmarks/results/refine.md).
    """
    if accepted is None:
        return word, torch.zeros_like(word[:, 0], dtype=torch.bool)
    there = accepted.sum(1) > _ACCEPTED
    if representation == "classes":
        corrected = there & (accepted.argmax(1) != word.argmax(1))
        return torch.where(corrected[:, None], accepted, word), corrected
    corrected = there & ((accepted[:, 1] > 0.5) != (word[:, 0] > 0.5))
    found = torch.where(corrected, accepted[:, 1], word[:, 0])
    return torch.cat([found[:, None], word[:, 1:]], 1), corrected


def contradicted(
    said: torch.Tensor, values: torch.Tensor, known: torch.Tensor, representation: str
) -> torch.Tensor:
    """Return where the annotations near by say that another is wrong.

    Parameters
    ----------
    said : tensor of float, axes (N, C, [Z,] Y, X)
        Probabilities of the other.
    values : tensor of float, same axes
    known : tensor of bool, same axes
    representation : {"binary", "classes", "objects"}

    Returns
    -------
    tensor of bool, axes (N, [Z,] Y, X)
    """
    if representation == "classes":
        wrong = known[:, 0] & (said.argmax(1) != values.argmax(1))
    else:
        wrong = known[:, 0] & ((said[:, 0] > 0.5) != (values[:, 0] > 0.5))
    pool = functional.max_pool2d if wrong.ndim == 3 else functional.max_pool3d
    edge = 2 * _AROUND_ERRORS + 1
    return pool(wrong.float()[:, None], edge, stride=1, padding=_AROUND_ERRORS)[:, 0] > 0
