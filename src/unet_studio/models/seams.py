"""How many pixels change side at a seam if tiles have less context than the network sees.

The outer part of a receptive field hardly counts: a network that sees 288
pixels far may decide all but a few pixels by the nearest 64. How many flip is
measured on synthetic texture for a few halos; a plan then takes the smallest
halo whose flips stay below what the user accepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional

# Pixels along the seam: enough to tell one flip in a hundred pixels of seam.
_SEAM = {2: 96, 3: 32}
# Sides of a decision with a smaller share than this say nothing of the network's use.
_SMALLEST_SIDE = 0.01


@torch.no_grad()
def seam_flips(
    network: nn.Module,
    channels: int,
    strides: Sequence[int],
    halo: int,
    *,
    classes: bool = False,
) -> tuple[tuple[int, float], ...]:
    """Measure the flips of a seam across X for halos up to the exact one.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, on the CPU.
    channels : int
        Of the input.
    strides : sequence of int
        Product of the poolings per axis [Z] Y X, in pixels.
    halo : int
        Along X, with which there is no flip: the radius of the receptive field,
        rounded up to the stride, in pixels.
    classes : bool
        The decision is the likeliest of several classes; otherwise the sign of the
        first logit.

    Returns
    -------
    tuple of (halo in pixels, flips per pixel of seam)
        With growing halo; the last is ``(halo, 0.0)``. The flips are the most that
        were seen with any halo as large or larger.
    """
    candidates = list(_candidates(strides[-1], halo))
    worst = [0.0] * len(candidates)
    for image in _textures(channels, strides, halo):
        whole = network(image)
        level = _level(whole)
        for index, context in enumerate(candidates):
            cut = image.shape[-1] // 2
            tile = network(image[..., : cut + context])[..., :cut]
            flipped = _decide(tile, level, classes) != _decide(whole[..., :cut], level, classes)
            # What one tile has wrong on its side, the other has on its own.
            flips = 2 * float(flipped.sum()) / image[0, 0, ..., 0].numel()
            worst[index] = max(worst[index], flips)
    bounded: list[tuple[int, float]] = [(halo, 0.0)]
    for context, flips in zip(reversed(candidates), reversed(worst), strict=True):
        bounded.append((context, round(max(flips, bounded[-1][1]), 4)))
    return tuple(reversed(bounded))


def _candidates(stride: int, halo: int) -> Iterator[int]:
    """Multiples of the stride below the exact halo, about half as much again each time."""
    context = stride
    while context < halo:
        yield context
        context = max(context + stride, -(-context * 3 // 2 // stride) * stride)


def _textures(channels: int, strides: Sequence[int], halo: int) -> Iterator[torch.Tensor]:
    across = [-(-_SEAM[len(strides)] // stride) * stride for stride in strides[:-1]]
    image = texture(channels, (*across, 2 * (halo + 2 * strides[-1])))
    yield image
    yield 1 - image


def texture(channels: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Return an image that looks a little like cells: what networks are made for.

    Parameters
    ----------
    channels : int
        All the same.
    shape : tuple of int
        [Z,] Y, X in pixels.

    Returns
    -------
    tensor of float32, axes (1, C, [Z,] Y, X)
        Bright blobs of several sizes with soft edges on a flat ground, about a quarter
        of the area, with a little noise; about 0 to 1. Always the same.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 1, *shape)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    for size, share in ((8, 0.5), (20, 1.0), (60, 0.5)):
        coarse = torch.randn(1, 1, *[max(2, n // size) for n in shape], generator=generator)
        image += share * functional.interpolate(coarse, shape, mode=mode, align_corners=False)
    image = torch.sigmoid(6 * ((image - image.mean()) / image.std() - 0.7))
    image = image + 0.02 * torch.randn(image.shape, generator=generator)
    return image.expand(1, channels, *shape).contiguous()


def _level(logits: torch.Tensor) -> float:
    """Where the foreground begins: 0, unless nearly all lies on one side of it."""
    first = logits[:, 0]
    above = float((first > 0).float().mean())
    balanced = min(above, 1 - above) >= _SMALLEST_SIDE
    return 0.0 if balanced else float(first.median())


def _decide(logits: torch.Tensor, level: float, classes: bool) -> torch.Tensor:
    return logits.argmax(dim=1) if classes else logits[:, 0] > level
