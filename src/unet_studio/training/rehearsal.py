"""The bundled sample images as a memory: what the old model said there is to stay so."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from unet_studio.errors import AxesError
from unet_studio.images.sampling import measure_scaling
from unet_studio.images.volume import as_volume
from unet_studio.inference.channels import map_channels
from unet_studio.samples import SAMPLES, read_sample
from unet_studio.training.augmentation import random_crop, uniform
from unet_studio.training.sampler import GENTLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.models.card import ModelCard

_COMPARED = 192  # edge of what is compared of a sample, in pixels


def rehearsal_images(card: ModelCard) -> list[NDArray[np.float32]]:
    """Return the sample images that fit a model, as it sees them.

    Returns
    -------
    list of array of float32, axes (C, [Z,] Y, X)
        Which of them show what the model is for matters little: everywhere it is to say
        what it said.
    """
    images = []
    for sample in SAMPLES.values():
        if ("Z" in sample.axes) != (card.ndim == 3):
            continue
        volume = as_volume(read_sample(sample.name), sample.axes, rgb=sample.rgb)
        try:
            channel_map = map_channels(None, card, volume.info)
        except AxesError:
            continue
        mix: Any = channel_map.mix
        scaling = measure_scaling(volume, channel_map.channels, card.normalisation, mix)
        images.append(channel_map.expand(scaling.apply(mix(volume.read()))))
    return images


def rehearsal_crops(
    images: Sequence[NDArray[np.float32]], crop: Sequence[int], generator: torch.Generator
) -> Callable[[int], torch.Tensor]:
    """Return what draws crops of the sample images, axes (N, C, [Z,] Y, X).

    Parameters
    ----------
    images : sequence of array of float32, axes (C, [Z,] Y, X)
    crop : sequence of int
        Edges, [Z] Y X, in pixels.
    generator : torch.Generator
    """

    def draw() -> torch.Tensor:
        image = images[int(torch.randint(len(images), (), generator=generator))]
        centre = [uniform(generator, 0, n) for n in image.shape[1:]]
        if len(crop) == 2:
            tensor = torch.from_numpy(image)
            nothing = torch.zeros(image.shape[1:], dtype=torch.int32)
            y, x = centre
            return random_crop(tensor, nothing, (y, x), crop[0], GENTLE, generator)[0]
        start = [
            max(0, min(int(c), n - e))
            for c, n, e in zip(centre, image.shape[1:], crop, strict=True)
        ]
        part = image[(slice(None), *(slice(s, s + e) for s, e in zip(start, crop, strict=True)))]
        pad = [(0, e - n) for e, n in zip(crop, part.shape[1:], strict=True)]
        return torch.from_numpy(np.pad(part, [(0, 0), *pad], mode="symmetric"))

    return lambda count: torch.stack([draw() for _ in range(count)])


@torch.no_grad()
def agreement(
    old: nn.Module, new: nn.Module, card: ModelCard, images: Sequence[NDArray[np.float32]]
) -> float | None:
    """Return how far two networks agree on the sample images, range [0, 1].

    The Dice coefficient between what they find (of classes: the mean over those that
    the old one finds), pooled over the samples.

    Parameters
    ----------
    old, new : torch.nn.Module
        On the same device, in evaluation mode.
    card : ModelCard
    images : sequence of array of float32, axes (C, [Z,] Y, X)
    """
    device = next(new.parameters()).device
    counts: dict[int, NDArray[np.float64]] = {}
    for image in images:
        part = torch.from_numpy(_middle(image, card.strides))[None].to(device)
        before, after = (_classes(net(part)[0], card) for net in (old, new))
        for kind in range(1, max(2, card.out_channels if card.representation == "classes" else 2)):
            a, b = before == kind, after == kind
            counted = np.array([float((a & b).sum()), float(a.sum() + b.sum()), float(a.sum())])
            counts[kind] = counts.get(kind, np.zeros(3)) + counted
    dices = [2 * common / total for common, total, found in counts.values() if found]
    return float(np.mean(dices)) if dices else None


def _classes(logits: torch.Tensor, card: ModelCard) -> torch.Tensor:
    if card.representation == "classes":
        return logits.argmax(0)
    return (logits[0] > 0).long()


def _middle(image: NDArray[np.float32], strides: Sequence[int]) -> NDArray[np.float32]:
    parts: list[slice] = [slice(None)]
    for n, stride in zip(image.shape[1:], strides, strict=True):
        edge = min(n, _COMPARED) // stride * stride
        parts.append(slice((n - edge) // 2, (n - edge) // 2 + edge))
    return np.ascontiguousarray(image[tuple(parts)])


def frozen_copy(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a copy on a device, in evaluation mode, that learns nothing."""
    return copy.deepcopy(network).to(device).eval().requires_grad_(False)
