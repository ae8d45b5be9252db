"""Measure a network instead of trusting a formula.

The radius of the receptive field decides how much context a tile needs. It is
found with one backward pass through a linearised copy: every weight positive,
every nonlinearity an identity, every maximum a mean. Then no path can cancel
or be switched off, so the gradient of one output block is non-zero exactly on
the input it can depend on. Whether tiles really reproduce the whole image
is then checked on the network itself.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unet_studio.models.card import ModelCard
from unet_studio.models.per_axis import PerAxis, joined, spread
from unet_studio.models.seams import seam_flips

# Accepted difference between tiles and whole, relative to the logits' standard
# deviation. Rounding gives about 1e-16 (1e-7 in programs, which keep to float32), and as many
# times more as the logits' mean is larger than their deviation; instance norm about 3e-1.
INVARIANCE_TOLERANCE = 1e-5
_LONGEST_PROBE = 4096
_CONVOLUTIONS = (
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
_ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.Dropout,
    nn.Dropout2d,
    nn.Dropout3d,
)


@dataclass(frozen=True)
class Probe:
    """What was measured of a network.

    Attributes
    ----------
    strides : tuple of int
        Product of the poolings per axis [Z] Y X, in pixels.
    radii : tuple of int or None
        Largest distance along each axis at which an input pixel can change an output
        pixel, in pixels; None if it is unbounded along any.
    tile_invariant : bool
        Tiles with a halo of at least ``radii``, on origins that are multiples of
        ``strides``, reproduce the whole image.
    bytes_per_pixel : float
        Peak memory of activations in a forward pass, per input pixel.
    parameters : int
    seam_flips : tuple of (int, float)
        Decisions that change per pixel of seam, for halos up to the exact one; see
        :func:`unet_studio.models.seams.seam_flips`. Empty if no halo is exact.
    """

    strides: tuple[int, ...]
    radii: tuple[int, ...] | None
    tile_invariant: bool
    bytes_per_pixel: float
    parameters: int
    seam_flips: tuple[tuple[int, float], ...] = ()

    @property
    def radius(self) -> PerAxis | None:
        """The radii as one number where all axes have the same; None if unbounded."""
        return None if self.radii is None else joined(self.radii)

    @property
    def halos(self) -> tuple[int, ...] | None:
        """The radii rounded up to the strides; None if unbounded."""
        if self.radii is None:
            return None
        pairs = zip(self.radii, self.strides, strict=True)
        return tuple(-(-radius // stride) * stride for radius, stride in pairs)

    def card_fields(self) -> dict[str, Any]:
        """Return the measured fields of a model card."""
        return {
            "stride": joined(self.strides),
            "halo": None if self.halos is None else joined(self.halos),
            "tile_invariant": self.tile_invariant,
            "seam_flips": self.seam_flips,
            "bytes_per_pixel": round(self.bytes_per_pixel, 1),
            "parameters": self.parameters,
        }


def probe_network(network: nn.Module, card: ModelCard) -> Probe:
    """Measure a network: reach, behaviour in tiles, memory.

    Parameters
    ----------
    network : torch.nn.Module
        On the CPU; used in evaluation mode and left as it was.
    card : ModelCard
        For the number of channels and dimensions.
    """
    was_training = network.training
    network.eval()
    try:
        strides = spread(getattr(network, "stride", card.stride), card.ndim)
        radii = receptive_radii(network, card.in_channels, strides)
        invariant = radii is not None and _same_in_tiles(network, card.in_channels, strides, radii)
        probe = Probe(
            strides,
            radii,
            invariant,
            activation_bytes_per_pixel(network, card.in_channels, strides),
            sum(p.numel() for p in network.parameters()),
        )
        if not invariant or not probe.halos or not probe.halos[-1]:
            return probe
        flips = seam_flips(
            network,
            card.in_channels,
            strides,
            probe.halos[-1],
            classes=card.representation == "classes",
        )
        return replace(probe, seam_flips=flips)
    finally:
        network.train(was_training)


def linearised(network: nn.Module) -> nn.Module:
    """Return a copy through which a gradient reaches all that it can, in float64."""
    network = copy.deepcopy(network).double().eval()
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            # A layer norm looks at the channels of one pixel only, and would let nothing
            # through where all channels are equal, as they are here.
            if isinstance(child, (*_BATCH_NORMS, *_ELEMENTWISE, nn.LayerNorm)):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d | nn.MaxPool3d):
                setattr(module, name, _mean_pool(child))
            elif isinstance(child, _CONVOLUTIONS):
                fan_in = child.weight[0].numel()
                child.weight = nn.Parameter(torch.full_like(child.weight, 1.0 / fan_in))
                if child.bias is not None:
                    nn.init.zeros_(child.bias)
    return network


def _mean_pool(pool: nn.MaxPool2d | nn.MaxPool3d) -> nn.Module:
    mean: Any = nn.AvgPool2d if isinstance(pool, nn.MaxPool2d) else nn.AvgPool3d
    result: nn.Module = mean(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
    return result


def _strip(channels: int, strides: Sequence[int], axis: int, length: int) -> tuple[int, ...]:
    shape = list(strides)
    shape[axis] = length
    return (1, channels, *shape)


def receptive_radii(
    network: nn.Module, in_channels: int, strides: Sequence[int]
) -> tuple[int, ...] | None:
    """Return the receptive field's radius along each axis, in pixels.

    One block of a stride's output pixels is followed back, so that every
    position relative to the poolings is covered. None if the field grows with
    the image (global pooling, attention, instance or group normalisation).
    """
    network = linearised(network)
    radii = []
    for axis, stride in enumerate(strides):
        length = 16 * stride
        while True:
            radius = _radius_along(network, in_channels, strides, axis, length)
            if radius is not None:
                radii.append(radius)
                break
            if length >= _LONGEST_PROBE:
                return None
            length = min(2 * length, max(_LONGEST_PROBE, 16 * stride))
    return tuple(radii)


def _radius_along(
    network: nn.Module, in_channels: int, strides: Sequence[int], axis: int, length: int
) -> int | None:
    """Radius along one axis, or None if it reaches the end of the strip."""
    stride, ndim = strides[axis], len(strides)
    shape = _strip(in_channels, strides, axis, length)
    image = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    start = length // stride // 2 * stride
    block = network(image).narrow(2 + axis, start, stride)
    (gradient,) = torch.autograd.grad(block.sum(), image)
    reached = gradient.abs().amax(dim=[d for d in range(ndim + 2) if d != 2 + axis])
    return reach_beyond(reached != 0, start, stride)


def reach_beyond(there: torch.Tensor, start: int, stride: int) -> int | None:
    """Return how far what is there reaches beyond one stride of pixels; None if it is not known.

    Parameters
    ----------
    there : torch.Tensor of bool, axes (position,)
        Along one axis. If nothing is there, or it reaches to an end, nothing is known.
    start, stride : int
        The pixels that it is counted from.
    """
    positions = torch.nonzero(there)[:, 0]
    if not len(positions):
        return None
    first, last = int(positions.min()), int(positions.max())
    if first == 0 or last == len(there) - 1:
        return None
    return max(start - first, last - (start + stride - 1))


def _same_in_tiles(
    network: nn.Module, in_channels: int, strides: Sequence[int], radii: Sequence[int]
) -> bool:
    """Whether tiles reproduce the whole image but for rounding, along every axis."""
    # Logits of small deviation about a large mean are little more than rounding in float32.
    wide = copy.deepcopy(network).double()
    errors = [
        tiling_error(wide, in_channels, strides, radius, axis, torch.float64)
        for axis, radius in enumerate(radii)
    ]
    return max(errors) <= INVARIANCE_TOLERANCE


@torch.no_grad()
def tiling_error(
    network: nn.Module,
    in_channels: int,
    strides: Sequence[int],
    radius: int,
    axis: int,
    dtype: torch.dtype = torch.float32,
) -> float:
    """Largest difference of two tiles along an axis to the whole, over the logits' deviation."""
    stride = strides[axis]
    halo = -(-radius // stride) * stride
    # Fine structure through the whole strip; the same strip cut in two must agree.
    cut = halo + 3 * stride
    length = 2 * cut
    generator = torch.Generator().manual_seed(0)
    shape = _strip(in_channels, strides, axis, length)
    image = torch.randn(shape, generator=generator).to(dtype)
    whole = network(image)
    dim = 2 + axis
    first = network(image.narrow(dim, 0, cut + halo)).narrow(dim, 0, cut)
    second = network(image.narrow(dim, cut - halo, cut + halo)).narrow(dim, halo, cut)
    difference = (torch.cat([first, second], dim=dim) - whole).abs().max()
    return float(difference / whole.std().clamp(min=1e-12))


@torch.no_grad()
def activation_bytes_per_pixel(
    network: nn.Module, in_channels: int, strides: Sequence[int]
) -> float:
    """Peak of the memory that a forward pass allocates, per input pixel, fp32."""
    edge = 256 if len(strides) == 2 else 64
    shape = [max(2 * stride, -(-edge // stride) * stride) for stride in strides]
    image = torch.zeros(1, in_channels, *shape)
    with _LiveBytes(network) as memory:
        network(image)
    used: int = memory.peak + image.numel() * image.element_size()
    return used / float(math.prod(shape))


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follow how many bytes of freshly made tensors are alive, a network's own not counted."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Torch would import its compiler to tell it of this class: four seconds, for nothing.
        return False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        # A linear layer makes a view of its weights, which takes no memory.
        own = (*network.parameters(), *network.buffers())
        self._known = {tensor.untyped_storage().data_ptr() for tensor in own}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self._follow(value.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._known or size == 0:
            return
        self._known.add(address)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.live -= size
