"""Random crops and random changes of appearance, for training in two dimensions.

Everything takes a :class:`torch.Generator`, so that a seed fixes the run.
Images here are already normalised: about 0 for the darkest and 1 for the
brightest pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """How far the crops may depart from the images.

    Attributes
    ----------
    zoom : tuple of float
        Smallest and largest magnification, drawn log-uniformly.
    stretch : float
        Largest anisotropy: one axis by ``1 + stretch``, the other by its inverse.
    elastic : float
        Standard deviation in pixels of the smooth random displacement.
    appearance : float
        Probability of each of the changes of appearance.
    contrast : float
        Largest exponent and gain, and inverse of the smallest.
    invert : float
        Probability of swapping bright and dark.
    recolour : float
        Probability that an RGB image becomes grey or has its channels mixed,
        and half the probability that a grey image is tinted.
    blur : float
        Largest blur, standard deviation in pixels. Objects of a few pixels do
        not survive much.
    coarser : float
        Largest factor by which a crop is shrunk and enlarged again.
    noise : float
        Largest standard deviation of the noise.
    """

    zoom: tuple[float, float] = (0.5, 2.0)
    stretch: float = 0.2
    elastic: float = 2.0
    appearance: float = 0.35
    contrast: float = 2.0
    invert: float = 0.25
    recolour: float = 0.3
    blur: float = 2.5
    coarser: float = 3.0
    noise: float = 0.2


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Draw one number from ``[low, high)``."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def log_uniform(generator: torch.Generator, limit: float) -> float:
    """Draw one factor between ``1 / limit`` and ``limit``, both ways alike."""
    return math.exp(uniform(generator, -math.log(limit), math.log(limit)))


def sampling_grid(
    centre: tuple[float, float],
    shape: tuple[int, int],
    size: int,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> torch.Tensor:
    """Coordinates from which a randomly turned, zoomed and bent crop is read.

    Parameters
    ----------
    centre : tuple of float
        Y, X of the crop's centre in the image, in pixels.
    shape : tuple of int
        Y, X size of the image, in pixels.
    size : int
        Edge of the square crop, in pixels.

    Returns
    -------
    tensor of float32, axes (1, Y, X, 2)
        Positions as :func:`torch.nn.functional.grid_sample` wants them (x, y).
    """
    low, high = augmentation.zoom
    zoom = math.exp(uniform(generator, math.log(low), math.log(high)))
    stretch = 1 + uniform(generator, 0, augmentation.stretch)
    if uniform(generator, 0, 1) < 0.5:
        stretch = 1 / stretch
    angle = uniform(generator, 0, 2 * math.pi)
    flip = 1.0 if uniform(generator, 0, 1) < 0.5 else -1.0
    steps = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    y, x = torch.meshgrid(steps, steps * flip, indexing="ij")
    if augmentation.elastic > 0:
        coarse = torch.randn(1, 2, 6, 6, generator=generator) * augmentation.elastic
        bend = functional.interpolate(coarse, (size, size), mode="bicubic")[0]
        y, x = y + bend[0], x + bend[1]
    y, x = y * stretch / zoom, x / stretch / zoom
    turned_y = y * math.cos(angle) - x * math.sin(angle) + centre[0]
    turned_x = y * math.sin(angle) + x * math.cos(angle) + centre[1]
    height, width = shape
    return torch.stack(
        [turned_x / max(width - 1, 1) * 2 - 1, turned_y / max(height - 1, 1) * 2 - 1], -1
    )[None]


def random_crop(
    image: torch.Tensor,
    labels: torch.Tensor,
    centre: tuple[float, float],
    size: int,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut one randomly deformed square out of an image and its labels.

    Parameters
    ----------
    image : tensor of float32, axes (C, Y, X)
    labels : tensor of int, axes (Y, X)

    Returns
    -------
    image : tensor of float32, axes (C, size, size)
    labels : tensor of int64, axes (size, size)
    """
    height, width = labels.shape
    grid = sampling_grid(centre, (height, width), size, augmentation, generator)
    crop = functional.grid_sample(
        image[None], grid, padding_mode="reflection", align_corners=True
    )[0]
    # float64: ids above 2**24 would merge in float32.
    ids = functional.grid_sample(
        labels[None, None].double(),
        grid.double(),
        mode="nearest",
        padding_mode="reflection",
        align_corners=True,
    )[0, 0]
    return crop, ids.round().long()


def change_appearance(
    image: torch.Tensor, augmentation: Augmentation, generator: torch.Generator
) -> torch.Tensor:
    """Vary colour, contrast, sharpness and noise of one crop.

    Parameters
    ----------
    image : tensor of float32, axes (C, Y, X)
        Normalised intensities. With C = 3 the channels are red, green, blue;
        three equal channels are taken for a grey image.

    Returns
    -------
    tensor of float32, same shape
    """

    def chance(probability: float) -> bool:
        return uniform(generator, 0, 1) < probability

    channels = image.shape[0]
    if channels == 3:
        image = _recolour(image, augmentation, generator)
        if _is_grey(image):  # so that its noise is grey, too
            image = image[:1]
    if chance(augmentation.invert):
        image = 1 - image
    if chance(augmentation.appearance):  # gamma, on the part that can take it
        image = image.clamp(min=0) ** log_uniform(generator, augmentation.contrast)
    if chance(augmentation.appearance):
        offset = 0.2 * math.log2(augmentation.contrast)
        image = image * log_uniform(generator, augmentation.contrast)
        image = image + uniform(generator, -offset, offset)
    if chance(augmentation.appearance * 0.5):
        image = image * _illumination(image, generator)
    if chance(augmentation.appearance):
        image = _blur(image, uniform(generator, 0.3, augmentation.blur))
    if chance(augmentation.appearance * 0.5):
        image = _lower_resolution(image, uniform(generator, 1.2, augmentation.coarser))
    if chance(augmentation.appearance):
        image = _add_noise(image, augmentation.noise, generator)
    return image.expand(channels, -1, -1)


def _is_grey(image: torch.Tensor) -> bool:
    return bool((image[0] == image[1]).all() and (image[0] == image[2]).all())


def _recolour(
    image: torch.Tensor, augmentation: Augmentation, generator: torch.Generator
) -> torch.Tensor:
    draw = uniform(generator, 0, 1)
    if _is_grey(image):
        if draw < augmentation.recolour / 2:  # a stain shown in a colour
            tint = torch.rand(3, 1, 1, generator=generator)
            tint[int(uniform(generator, 0, 3))] = 1.0
            image = image * tint.round() if draw < augmentation.recolour / 4 else image * tint
        return image
    if draw < augmentation.recolour:
        weights = torch.rand(3, 1, 1, generator=generator) + 0.05
        image = (image * weights / weights.sum()).sum(0, keepdim=True).expand(3, -1, -1)
    elif draw < 2 * augmentation.recolour:
        mix = torch.eye(3) + 0.15 * torch.randn(3, 3, generator=generator)
        if draw < 1.4 * augmentation.recolour:
            mix = mix[torch.randperm(3, generator=generator)]
        image = torch.einsum("ij,jyx->iyx", mix / mix.sum(1, keepdim=True), image)
    return image


def _illumination(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a smooth field between about 0.5 and 1.5: uneven illumination."""
    coarse = uniform(generator, 0, 0.3) * torch.randn(1, 1, 3, 3, generator=generator)
    field = functional.interpolate(coarse, image.shape[1:], mode="bicubic", align_corners=True)
    return (1 + field[0]).clamp(0.4, 1.6)


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur, sigma in pixels."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(image.shape[0], 1, 1, -1)
    padded = functional.pad(image[None], (radius,) * 4, mode="reflect")
    padded = functional.conv2d(padded, kernel, groups=image.shape[0])
    return functional.conv2d(padded, kernel.transpose(2, 3), groups=image.shape[0])[0]


def _lower_resolution(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Shrink and enlarge again, as a coarser camera would."""
    small = functional.interpolate(
        image[None], scale_factor=1 / factor, mode="bilinear", antialias=True
    )
    return functional.interpolate(small, image.shape[1:], mode="bilinear")[0]


def _add_noise(image: torch.Tensor, limit: float, generator: torch.Generator) -> torch.Tensor:
    strength = uniform(generator, 0.0, limit)
    noise = torch.randn(image.shape, generator=generator)
    if uniform(generator, 0, 1) < 0.5:  # shot noise grows with the signal
        noise = noise * image.clamp(min=0).sqrt()
    return image + strength * noise
