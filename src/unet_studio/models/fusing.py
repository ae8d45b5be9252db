"""Convolutions that clip and join as they go: the same result with fewer passes over memory.

On a CPU much of a U-Net's time goes into passes over memory between its convolutions. Two of
them can be had with the convolution before or after, by what oneDNN calls post-operations
(https://uxlfoundation.github.io/oneDNN/dev_guide_attributes_post_ops.html): the ReLU, and the
join of fine and coarse features, which otherwise copies both side by side. For a convolution
is linear: it is done with each of them, and the second adds to what the first has written.

No architecture has to be known: which convolutions these are is seen by running the network.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

# Mean change of the logits that rounding in another order may make, relative to their
# deviation; bfloat16 itself makes as much. A wrong fusion would change them altogether.
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def fuse(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return a network that does the same in fewer passes over memory.

    Parameters
    ----------
    network : torch.nn.Module
        On a CPU, in evaluation mode; left as it is.
    example : tensor, axes (N, C, Y, X)
        A small input in the network's precision and order of memory; what is in it does not
        matter, as long as it is not constant.

    Returns
    -------
    torch.nn.Module
        The network itself if it can not be fused here, or would not do the same then.
    """
    tolerance = _TOLERANCE.get(example.dtype)
    if tolerance is None or not _can_fuse():
        return network
    with torch.no_grad():
        try:
            fused = _fused(copy.deepcopy(network), example)
            found = fused(example)
        # An operation that this torch, or oneDNN on this processor, lacks; or a network that
        # does what only tensors can do.
        except (RuntimeError, AttributeError, TypeError, ValueError):
            return network
        expected = network(example)
    error = (found - expected).float().abs().mean() / expected.float().std().clamp(min=1e-12)
    return fused if float(error) <= tolerance else network


def _can_fuse() -> bool:
    """Whether torch has oneDNN here, and it is the kind of processor this was measured on."""
    known = platform.machine().lower() in ("x86_64", "amd64")
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return known and there


class Joined:
    """Features that lie side by side along the channels, not yet copied into one tensor.

    What knows them takes the parts; all else is given the tensor, made then.

    Attributes
    ----------
    parts : tuple of tensor, axes (N, C, Y, X)
    """

    def __init__(self, parts: Iterable[torch.Tensor]) -> None:
        self.parts = tuple(parts)

    def whole(self) -> torch.Tensor:
        """Return one tensor."""
        # By another name: joins called "cat" are deferred.
        return torch.concatenate(self.parts, dim=1)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.whole(), name)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        def whole(value: Any) -> Any:
            return value.whole() if isinstance(value, Joined) else value

        return func(*tree_map(whole, args), **tree_map(whole, kwargs or {}))


def _delegated(name: str) -> Callable[..., Any]:
    def method(self: Joined, *args: Any) -> Any:
        return getattr(self.whole(), name)(*args)

    return method


# Python looks these up in the class. A network may use them for some sizes only, which the
# example does not have: what is not here ends a run.
for _name in (
    *("__getitem__", "__len__", "__iter__", "__neg__", "__abs__", "__bool__", "__float__"),
    *("__lt__", "__le__", "__gt__", "__ge__", "__invert__"),
    *(f"__{r}{name}__" for name in ("add", "sub", "mul", "truediv", "pow") for r in ("", "r")),
):
    setattr(Joined, _name, _delegated(_name))


class _Deferring(TorchFunctionMode):
    """In which ``torch.cat`` along the channels gives :class:`Joined`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if func is torch.cat and not given.keys() - {"dim", "tensors"}:
            tensors: Any = args[0] if args else given.get("tensors")
            dim = args[1] if len(args) > 1 else given.get("dim", 0)
            if dim == 1 and len(tensors) > 1 and all(type(t) is torch.Tensor for t in tensors):
                return Joined(tensors)
        return func(*args, **given)


class _JoiningNetwork(nn.Module):
    """A network whose joins are left to the convolutions that follow."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return what the network does."""
        with _Deferring():
            result: torch.Tensor = self.network(image)
        return result


class FusedConvolution(nn.Module):
    """A convolution that may join what it is given, and clip what it gives.

    Parameters
    ----------
    convolution : torch.nn.Conv2d
    channels : sequence of int
        Of the parts that it is given.
    clipped : bool
        Whether a ReLU belongs to it.
    """

    def __init__(self, convolution: nn.Conv2d, channels: Iterable[int], clipped: bool) -> None:
        super().__init__()
        parts = torch.split(convolution.weight.detach(), list(channels), dim=1)
        # No ParameterList: that is a module, and whatever holds one is taken for a container.
        self._names = [f"weight_{number}" for number in range(len(parts))]
        for name, part in zip(self._names, parts, strict=True):
            whole = part.clone(memory_format=torch.channels_last)
            self.register_parameter(name, nn.Parameter(whole, requires_grad=False))
        self.bias = convolution.bias
        self._settings = (
            list(convolution.padding),
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        self._clip = "relu" if clipped else None

    def forward(self, features: torch.Tensor | Joined) -> torch.Tensor:
        """Return the convolution of features, axes (N, C, Y, X), or of joined ones."""
        parts, weights = self._matched(features)
        clips = [None] * (len(parts) - 1) + [self._clip]
        convolve = torch.ops.mkldnn._convolution_pointwise
        result = convolve(
            parts[0], weights[0], self.bias, *self._settings, clips[0] or "none", [], ""
        )
        for part, weight, clip in zip(parts[1:], weights[1:], clips[1:], strict=True):
            adding = torch.ops.mkldnn._convolution_pointwise_.binary
            result = adding(result, part, weight, None, *self._settings, "add", 1.0, clip, [], "")
        found: torch.Tensor = result
        return found

    def _matched(
        self, features: torch.Tensor | Joined
    ) -> tuple[tuple[torch.Tensor, ...], list[torch.Tensor]]:
        """Return the parts of features, and the weights for each."""
        weights = [getattr(self, name) for name in self._names]
        if len(weights) == 1:
            return (features.whole() if isinstance(features, Joined) else features,), weights
        if isinstance(features, Joined):
            channels = [part.shape[1] for part in features.parts]
            if channels == [weight.shape[1] for weight in weights]:
                return features.parts, weights
            features = features.whole()
        # Something else was done with them than with those of the example.
        return (features,), [torch.concatenate(weights, dim=1)]


@dataclass
class _Seen:
    """What a network's run has shown.

    Attributes
    ----------
    uses : dict
        How often each module was called.
    channels : dict
        Of the parts that each convolution was given.
    clips : dict
        The ReLU that takes a convolution's result.
    """

    uses: dict[nn.Module, int] = field(default_factory=dict)
    channels: dict[nn.Conv2d, tuple[int, ...]] = field(default_factory=dict)
    clips: dict[nn.Conv2d, nn.Module] = field(default_factory=dict)


def _fused(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """Fuse a network, which is changed."""
    seen = _watched(network, example)
    names = {module: name for name, module in network.named_modules()}
    joins = False
    for convolution, channels in seen.channels.items():
        relu = seen.clips.get(convolution)
        clipped = relu is not None and seen.uses[relu] == 1
        if seen.uses[convolution] > 1 or not _fits(convolution, channels):
            continue
        if len(channels) == 1 and not clipped:
            continue
        fused = FusedConvolution(convolution, channels, clipped)
        network.set_submodule(names[convolution], fused)
        if clipped and relu is not None:
            network.set_submodule(names[relu], nn.Identity())
        joins |= len(channels) > 1
    return _JoiningNetwork(network) if joins else network


def _fits(convolution: nn.Conv2d, channels: tuple[int, ...]) -> bool:
    plain = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    return plain and (len(channels) == 1 or convolution.groups == 1)


def _watched(network: nn.Module, example: torch.Tensor) -> _Seen:
    """Run a network once and see what its convolutions are given, and what takes their results."""
    seen = _Seen()
    made: dict[int, tuple[nn.Conv2d, Any]] = {}

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.uses[module] = seen.uses.get(module, 0) + 1
        given = inputs[0]
        if isinstance(module, nn.ReLU):
            source = made.get(id(given))
            if source is not None:
                seen.clips[source[0]] = module
        elif isinstance(module, nn.Conv2d):
            parts = given.parts if isinstance(given, Joined) else (given,)
            seen.channels[module] = tuple(part.shape[1] for part in parts)

    def leave(module: nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        made[id(output)] = (module, output)  # held, so that no other tensor gets its id

    handles: list[Any] = []
    for module in network.modules():
        if type(module) is nn.Conv2d:
            handles += [
                module.register_forward_pre_hook(enter),
                module.register_forward_hook(leave),
            ]
        elif type(module) is nn.ReLU:
            handles.append(module.register_forward_pre_hook(enter))
    try:
        with _Deferring():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    return seen
