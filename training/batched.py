"""Crops and changes of appearance for a whole batch at once, on the training device.

What ``unet_studio.training.augmentation`` does crop by crop on the CPU, for training
from scratch on a GPU that would otherwise wait: every crop of a batch has its own place,
scale, bend, contrast, blur and noise, drawn by one :class:`torch.Generator`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from unet_studio.training.augmentation import Augmentation

_BLUR_RADIUS = 8
# Batches that are drawn at once: to launch so many small kernels takes long.
AT_ONCE = 4


@dataclass(frozen=True)
class ImageStack:
    """Images of different sizes, padded to one, with what is warped along.

    Attributes
    ----------
    images : tensor of float32, axes (N, C, Y, X)
        Pyramid level 0.
    smaller : tuple of tensor
        The same at 1/2, 1/4, … of the resolution, so that zooming out does not alias.
    labels : tensor of float32, axes (N, K, Y, X)
        Read at the nearest pixel: ids (whole numbers below 2**24), weights, …
    smooth : tensor of float32, axes (N, L, Y, X)
        Interpolated linearly: distances.
    sizes : tensor of float32, axes (N, 2)
        Y, X size of each before padding.
    """

    images: torch.Tensor
    smaller: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    smooth: torch.Tensor
    sizes: torch.Tensor


def stack_images(
    images: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    smooth: Sequence[torch.Tensor],
    device: torch.device,
    levels: int = 2,
) -> ImageStack:
    """Pad images (C, Y, X), labels (K, Y, X) and smooth maps (L, Y, X) into one stack."""
    sizes = torch.tensor([tuple(i.shape[1:]) for i in images], dtype=torch.float32)
    step = 2 ** (levels - 1)
    height, width = (math.ceil(int(n) / step) * step for n in sizes.amax(0).tolist())

    def padded(maps: Sequence[torch.Tensor], mode: str) -> torch.Tensor:
        whole = torch.zeros(len(maps), maps[0].shape[0], height, width)
        for slot, one in zip(whole, maps, strict=True):
            y, x = one.shape[1:]
            if mode == "edge":  # so that smaller levels do not darken towards the padding
                one = functional.pad(one[None].float(), (0, width - x, 0, height - y), "replicate")
                slot.copy_(one[0])
            else:
                slot[:, :y, :x] = one
        return whole.to(device)

    finest = padded(images, "edge")
    smaller = [finest]
    while len(smaller) < levels:
        smaller.append(functional.avg_pool2d(smaller[-1], 2))
    return ImageStack(
        finest, tuple(smaller[1:]), padded(labels, ""), padded(smooth, ""), sizes.to(device)
    )


class Draws:
    """Random numbers of a batch: one per crop."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator
        self.device = generator.device

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Draw numbers in ``[low, high)``, axes (N, *shape)."""
        drawn = torch.rand(self.count, *shape, generator=self.generator, device=self.device)
        return low + (high - low) * drawn

    def log_uniform(self, low: float, high: float) -> torch.Tensor:
        """Draw factors, small and large ones alike."""
        return self.uniform(math.log(low), math.log(high)).exp()

    def normal(self, *shape: int) -> torch.Tensor:
        """Draw standard normal numbers, axes (N, *shape)."""
        return torch.randn(self.count, *shape, generator=self.generator, device=self.device)

    def chance(self, probability: float) -> torch.Tensor:
        """Say yes for some of the crops, axes (N)."""
        return self.uniform(0, 1) < probability


def coordinates(
    centres: torch.Tensor,
    zoom: torch.Tensor,
    size: int,
    augmentation: Augmentation,
    draws: Draws,
) -> torch.Tensor:
    """Where the pixels of turned, zoomed and bent crops are read, Y and X in image pixels.

    Parameters
    ----------
    centres : tensor, axes (N, 2)
    zoom : tensor, axes (N)
        Magnification.

    Returns
    -------
    tensor of float32, axes (N, Y, X, 2)
    """
    count = draws.count
    stretch = 1 + draws.uniform(0, augmentation.stretch)
    stretch = torch.where(draws.chance(0.5), 1 / stretch, stretch)
    angle = draws.uniform(0, 2 * math.pi)
    flip = torch.where(draws.chance(0.5), 1.0, -1.0)
    steps = torch.arange(size, dtype=torch.float32, device=draws.device) - (size - 1) / 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    coarse = draws.normal(2, 6, 6) * augmentation.elastic
    bend = functional.interpolate(coarse, (size, size), mode="bicubic")

    def wide(value: torch.Tensor) -> torch.Tensor:
        return value.view(count, 1, 1)

    y = (y + bend[:, 0]) * wide(stretch / zoom)
    x = (x * wide(flip) + bend[:, 1]) * wide(1 / stretch / zoom)
    cosine, sine = wide(angle.cos()), wide(angle.sin())
    turned = torch.stack([y * cosine - x * sine, y * sine + x * cosine], -1)
    return turned + centres.view(count, 1, 1, 2)


def read_crops(
    stack: ImageStack, indices: torch.Tensor, positions: torch.Tensor, zoom: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Read crops of images, labels and smooth maps; outside, images are mirrored.

    Returns
    -------
    images, labels, smooth : tensor of float32, axes (N, C, Y, X)
    """
    limits = (stack.sizes[indices] - 1).clamp(min=1).view(-1, 1, 1, 2)
    inside = positions.remainder(2 * limits)
    inside = torch.where(inside > limits, 2 * limits - inside, inside)
    levels = [stack.images, *stack.smaller]
    # The level whose pixels are at most as large as those of the crop, or nearly.
    level = (-zoom.log2() + 0.3).floor().clamp(0, len(levels) - 1).long()
    images = torch.zeros(
        len(indices), stack.images.shape[1], *positions.shape[1:3], device=positions.device
    )
    for number, images_of_level in enumerate(levels):
        those = (level == number).nonzero()[:, 0]
        if len(those):
            # Pixel i of a level covers pixels i * 2**n … of the finest.
            factor = 2.0**number
            at = (inside[those] - (factor - 1) / 2) / factor
            images[those] = _sample(images_of_level[indices[those]], at, "bilinear")
    labels = _sample(stack.labels[indices], inside, "nearest")
    smooth = _sample(stack.smooth[indices], inside, "bilinear")
    return images, labels, smooth


def _sample(maps: torch.Tensor, at: torch.Tensor, mode: str) -> torch.Tensor:
    if maps.shape[1] == 0:
        return maps.new_zeros(len(maps), 0, *at.shape[1:3])
    shape = torch.tensor(maps.shape[2:], device=maps.device)
    grid = (at / (shape - 1).clamp(min=1) * 2 - 1).flip(-1)
    return functional.grid_sample(maps, grid, mode=mode, padding_mode="border", align_corners=True)


def change_appearance(
    images: torch.Tensor, augmentation: Augmentation, draws: Draws
) -> torch.Tensor:
    """Vary colour, contrast, sharpness and noise of crops, axes (N, C, Y, X)."""

    def pick(chosen: torch.Tensor, changed: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
        return torch.where(chosen.view(-1, 1, 1, 1), changed, otherwise)

    def wide(value: torch.Tensor) -> torch.Tensor:
        return value.view(-1, 1, 1, 1)

    share = augmentation.appearance
    grey = None
    if images.shape[1] == 3:
        grey = (images[:, :1] == images).flatten(1).all(1)
        images = _recolour(images, grey, augmentation, draws)
        grey = (images[:, :1] == images).flatten(1).all(1)
    images = pick(draws.chance(augmentation.invert), 1 - images, images)
    gamma = wide(draws.log_uniform(1 / augmentation.contrast, augmentation.contrast))
    images = pick(draws.chance(share), images.clamp(min=1e-4) ** gamma, images)
    offset = 0.2 * math.log2(max(augmentation.contrast, 1.0001))
    gain = wide(draws.log_uniform(1 / augmentation.contrast, augmentation.contrast))
    moved = images * gain + wide(draws.uniform(-offset, offset))
    images = pick(draws.chance(share), moved, images)
    field = wide(draws.uniform(0, 0.3)) * draws.normal(1, 3, 3)
    field = functional.interpolate(field, images.shape[2:], mode="bicubic", align_corners=True)
    images = pick(draws.chance(share / 2), images * (1 + field).clamp(0.4, 1.6), images)
    blurred = _blur(images, draws.uniform(0.3, augmentation.blur))
    images = pick(draws.chance(share), blurred, images)
    if augmentation.coarser > 1.2:
        factor = float(torch.rand((), generator=draws.generator, device=draws.device))
        factor = 1.2 + factor * (augmentation.coarser - 1.2)
        small = functional.interpolate(
            images, scale_factor=1 / factor, mode="bilinear", antialias=True
        )
        coarse = functional.interpolate(small, images.shape[2:], mode="bilinear")
        images = pick(draws.chance(share / 2), coarse, images)
    noise = draws.normal(*images.shape[1:])
    if grey is not None:
        noise = torch.where(wide(grey), noise[:, :1], noise)
    noise = pick(draws.chance(0.5), noise * images.clamp(min=0).sqrt(), noise)
    noisy = images + wide(draws.uniform(0, augmentation.noise)) * noise
    return pick(draws.chance(share), noisy, images)


def _recolour(
    images: torch.Tensor, grey: torch.Tensor, augmentation: Augmentation, draws: Draws
) -> torch.Tensor:
    draw, share = draws.uniform(0, 1), augmentation.recolour
    tint = draws.uniform(0, 1, 3)
    tint.scatter_(1, tint.argmax(1, keepdim=True), 1.0)
    tint = torch.where((draw < share / 4).view(-1, 1), tint.round(), tint)
    tinted = images * tint.view(-1, 3, 1, 1)
    weights = draws.uniform(0.05, 1.05, 3)
    weights = weights / weights.sum(1, keepdim=True)
    mean = (images * weights.view(-1, 3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    mix = torch.eye(3, device=draws.device) + 0.15 * draws.normal(3, 3)
    order = draws.uniform(0, 1, 3).argsort(1)
    swapped = mix.gather(1, order.unsqueeze(2).expand(-1, 3, 3))
    mix = torch.where((draw < 1.4 * share).view(-1, 1, 1), swapped, mix)
    mixed = torch.einsum("nij,njyx->niyx", mix / mix.sum(2, keepdim=True), images)

    def pick(chosen: torch.Tensor, changed: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
        return torch.where(chosen.view(-1, 1, 1, 1), changed, otherwise)

    result = pick(grey & (draw < share / 2), tinted, images)
    result = pick(~grey & (draw < share), mean, result)
    return pick(~grey & (draw >= share) & (draw < 2 * share), mixed, result)


def _blur(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur, one sigma per crop, in pixels."""
    count, channels, height, width = images.shape
    offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1.0, device=images.device)
    kernels = torch.exp(-(offsets**2) / (2 * sigma.view(-1, 1) ** 2))
    kernels = kernels / kernels.sum(1, keepdim=True)
    kernels = kernels.repeat_interleave(channels, 0)[:, None, None]
    padded = functional.pad(images, (_BLUR_RADIUS,) * 4, mode="reflect")
    flat = padded.reshape(1, count * channels, *padded.shape[2:])
    flat = functional.conv2d(flat, kernels, groups=count * channels)
    flat = functional.conv2d(flat, kernels.transpose(2, 3), groups=count * channels)
    return flat.reshape(count, channels, height, width)


def split_batches(
    drawn: Sequence[torch.Tensor], batch: int, generator: torch.Generator
) -> list[tuple[torch.Tensor, ...]]:
    """Shuffle crops that were drawn set by set, axes (N, ...), and cut them into batches."""
    order = torch.randperm(len(drawn[0]), generator=generator, device=generator.device)
    return list(zip(*(part[order].split(batch) for part in drawn), strict=True))
