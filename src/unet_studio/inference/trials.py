"""Try several ways to run a network out on a small image: how fast, and how close."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from unet_studio.errors import BackendError
from unet_studio.inference.precision import full_precision, prepare

if TYPE_CHECKING:
    import torch

    from unet_studio.models.model import Model

_ROUNDS = 3
# What is so many times slower than the first is not measured again.
_HOPELESS = 1.5
_TRIAL_EDGES = {2: (256,), 3: (64,)}
# A small image keeps a GPU waiting for the next layer to be launched, in any precision. The
# smaller ones are for want of memory.
_GPU_TRIAL_EDGES = {2: (2048, 1024, 256), 3: (160, 96, 64)}
# Of the way trials are made: what another one has measured is not used.
METHOD = 3


@dataclass(frozen=True)
class Numerics:
    """How a network runs.

    Attributes
    ----------
    backend : {"torch", "openvino"}
    precision : {"float32", "bfloat16", "float16", "int8"}
        Integers in OpenVINO alone.
    """

    backend: str = "torch"
    precision: str = "float32"

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


@dataclass(frozen=True)
class Trial:
    """What was measured of one way to run a network.

    Attributes
    ----------
    seconds : float
        Per pixel.
    error : float
        Mean change of the logits of a texture against torch in float32, relative to
        their standard deviation.
    startup : float
        Seconds before the first tile.
    """

    seconds: float
    error: float
    startup: float = 0.0


REFERENCE = Numerics()
# Runs a network once on the trial image, and returns when that is done.
_Run = Callable[[], None]


def try_out(
    model: Model,
    device: torch.device,
    ways: list[Numerics],
    check: Callable[[], None] = lambda: None,
) -> dict[str, Trial]:
    """Measure several ways to run a model on a texture, in turn.

    Parameters
    ----------
    model : Model
    device : torch.device
    ways : list of Numerics
        The first is what the others are compared with. Those that can not run here are
        left out of the result.
    check : callable
        Called between runs.
    """
    card = model.card
    edges = (_GPU_TRIAL_EDGES if device.type == "cuda" else _TRIAL_EDGES)[card.ndim]
    for edge in edges[:-1]:
        trials = _tried(model, device, ways, edge, check)
        if trials is not None:
            return trials
    return _try(model, device, ways, edges[-1], check)


def _tried(
    model: Model,
    device: torch.device,
    ways: list[Numerics],
    edge: int,
    check: Callable[[], None],
) -> dict[str, Trial] | None:
    """Return what :func:`_try` does; None if memory is too short for such an image."""
    import torch

    from unet_studio.inference.out_of_memory import is_out_of_memory

    try:
        return _try(model, device, ways, edge, check)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _try(
    model: Model,
    device: torch.device,
    ways: list[Numerics],
    edge: int,
    check: Callable[[], None],
) -> dict[str, Trial]:
    import torch

    from unet_studio.models.seams import texture

    card = model.card
    shape = tuple(-(-edge // stride) * stride for stride in card.strides)
    image = texture(card.in_channels, shape)
    runs: dict[str, _Run] = {}
    found: dict[str, tuple[float, float]] = {}
    with torch.inference_mode(), full_precision():
        expected: torch.Tensor | None = None
        for way in ways:
            check()
            with suppress(BackendError):
                run, logits, startup = _ready(model, device, way, image, check)
                expected = logits if expected is None else expected
                scale = expected.std().clamp(min=1e-12)
                error = float((logits - expected).abs().mean() / scale)
                runs[str(way)], found[str(way)] = run, (error, startup)
        seconds = _race(runs, check)
    pixels = math.prod(shape)
    return {
        name: Trial(statistics.median(values) / pixels, *found[name])
        for name, values in seconds.items()
    }


def _race(runs: dict[str, _Run], check: Callable[[], None]) -> dict[str, list[float]]:
    """Take the times of several ways in turn; the slow ones only once."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(_ROUNDS):
        quickest = min((times[0] for times in seconds.values() if times), default=0.0)
        for name, run in runs.items():
            if turn and seconds[name][0] > _HOPELESS * quickest and name != str(REFERENCE):
                continue
            check()
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def _ready(
    model: Model,
    device: torch.device,
    way: Numerics,
    image: torch.Tensor,
    check: Callable[[], None],
) -> tuple[_Run, torch.Tensor, float]:
    """Return what runs a network, its float32 logits, and how long it took to start.

    Converting a network for the first time does not count: later runs find it in the cache.
    """
    import torch

    if way.backend == "openvino":
        from unet_studio.inference.openvino import OpenVinoNetwork, converted

        converted(model, way.precision, check)
        began = time.perf_counter()
        compiled = OpenVinoNetwork(model, way.precision, check)
        logits = compiled(image)
        startup = time.perf_counter() - began
        return partial(_call, compiled, image, device), logits, startup
    network = prepare(model.network, model.card, device, way.precision)
    tile = image.to(device, getattr(torch, way.precision))
    if model.card.ndim == 2:
        tile = tile.contiguous(memory_format=torch.channels_last)
    logits = network(tile).float().cpu()
    return partial(_call, network, tile, device), logits, 0.0


def _call(network: Callable[[Any], Any], tile: torch.Tensor, device: torch.device) -> None:
    """Run a network; copies to and from a device go on beside it in a real run."""
    import torch

    network(tile)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
