"""What the surroundings of a pixel look like, for what learns from a few strokes.

Two kinds of features, side by side. Intensity and the eigenvalues of the Hessian at five scales
are what scikit-image's trainable segmentation has. The first layers of EfficientNet-Lite0, trained
on the photographs of ImageNet, tell textures and parts of shapes from one another: with both, more
is found from the same strokes (measured in ``benchmarks/results/refine.md``).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import nn

EVERY = 2  # so many pixels along each axis have their features in common

_WEIGHTS = Path(__file__).parent / "efficientnet_lite0_first_layers.safetensors"
# Cells are smaller than what photographs show: images are seen enlarged.
_ENLARGED = 2
_SIGMAS = (1.0, 16.0)
# More than any pixel but a damaged one has; float16 holds what filters make of it.
_OUTLYING = 1000.0
# Beyond what stretching to 0 to 1 gives, in which ImageNet's photographs are.
_DARKEST, _BRIGHTEST = -0.25, 1.5
# Images of other numbers of channels are shown to the network one channel at a time: no more
# than some, the rest is left to the filters.
_COLOURS = 3
_MOST_SHOWN = 6


def plane_features(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the surroundings of every second pixel look like, axes (Y / 2, X / 2, features).

    Parameters
    ----------
    image : array of float32, axes (C, Y, X)
        Intensities of about 0 to 1. The number of features depends on C alone.
    """
    image = image.clip(-_OUTLYING, _OUTLYING)
    height, width = image.shape[1:]
    # A gradient needs two pixels.
    two = np.pad(image, [(0, 0), (0, height == 1), (0, width == 1)], mode="edge")
    filtered = _filtered(two)[:height:EVERY, :width:EVERY]
    if len(image) == _COLOURS:
        shown = [image]
    else:
        chosen = np.linspace(0, len(image) - 1, photographs(len(image))).astype(int)
        shown = [image[[i]] for i in chosen]
    return np.concatenate([filtered, *(_seen_by_network(i) for i in shown)], axis=-1)


def photographs(channels: int) -> int:
    """Return how many times an image of so many channels is shown to the network."""
    return 1 if channels == _COLOURS else min(channels, _MOST_SHOWN)


def _filtered(image: NDArray[np.float32]) -> NDArray[np.float32]:
    from skimage.feature import multiscale_basic_features

    return np.asarray(
        multiscale_basic_features(
            image, intensity=True, edges=False, texture=True, sigma_min=_SIGMAS[0],
            sigma_max=_SIGMAS[1], channel_axis=0,
        ), np.float32,
    )  # fmt: skip


def _seen_by_network(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features of an image in one or three colours, axes (Y / 2, X / 2, features)."""
    import torch
    from torch.nn import functional

    from unet_studio.training.first_layers import STRIDE

    network, half_wide = _network()
    coarse = [-(-n // EVERY) for n in image.shape[1:]]
    block = STRIDE // _ENLARGED
    padding = (0, -image.shape[2] % block, 0, -image.shape[1] % block)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half_wide):
        photograph = torch.from_numpy(image.clip(_DARKEST, _BRIGHTEST) * 2 - 1)[None]
        photograph = functional.pad(photograph, padding, mode="replicate")
        inside = [-(-n // EVERY) for n in photograph.shape[2:]]
        large = functional.interpolate(photograph, scale_factor=_ENLARGED, mode="bilinear")
        stages = network(large.expand(-1, _COLOURS, -1, -1))
        features = [
            functional.interpolate(stage.float(), size=inside, mode="bilinear")[
                0, :, : coarse[0], : coarse[1]
            ]
            for stage in stages
        ]
        joined: torch.Tensor = torch.cat(features).movedim(0, -1).contiguous()
    return joined.numpy()


@functools.cache
def _network() -> tuple[nn.Module, bool]:
    """Return the first layers, trained, and whether bfloat16 is quicker here."""
    import torch
    from safetensors.torch import load_file

    from unet_studio.training.first_layers import FirstLayers
    from unet_studio.training.mixed_precision import is_quicker_in_bfloat16

    with torch.random.fork_rng(devices=[]):
        network = FirstLayers()
    network.load_state_dict(load_file(_WEIGHTS))
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return network, is_quicker_in_bfloat16(torch.device("cpu"))
