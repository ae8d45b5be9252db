"""Which numbers a network computes in: half-wide ones where the device runs them faster.

Whether it does depends on the processor and the network, so it is measured on
a tile, once per device and kind of network, and remembered. Torch is imported
only to measure: a plan asks what is remembered before.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

if TYPE_CHECKING:
    import torch
    from torch import nn

    from unet_studio.models.card import ModelCard
    from unet_studio.models.model import Model
    from unet_studio.recipe import Precision

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Less is not worth the digits, and could come out differently another time.
_SPEED_UP = 1.2
# Of the logits, relative to their deviation; bfloat16 has 8 bits, and gives about 6e-3.
_LARGEST_ERROR = 2e-2
_ROUNDS = 3
_TRIAL_EDGE = {2: 256, 3: 64}


def prepare(
    network: nn.Module, card: ModelCard, device: torch.device, precision: str
) -> nn.Module:
    """Return a copy of a network in the form in which it runs fastest.

    Batch normalisations are folded into convolutions, weights are in the chosen
    precision, and channels last where the network is of two dimensions.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode; left as it is.
    card : ModelCard
    device : torch.device
    precision : {"float32", "bfloat16", "float16"}
    """
    import torch

    from unet_studio.models.folding import fold_batch_norms

    edge = 2 * card.stride
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(1, card.in_channels, *[edge] * card.ndim, generator=generator)
    if any(p.device.type != "cpu" for p in network.parameters()):
        network = copy.deepcopy(network).cpu()  # moving it would move the caller's
    prepared = fold_batch_norms(network, example).requires_grad_(False)
    prepared = prepared.to(device, getattr(torch, precision))
    return prepared.to(memory_format=torch.channels_last) if card.ndim == 2 else prepared


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep CUDA convolutions in fp32: TF32 would break the equality of tiles and whole."""
    import torch

    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=False, allow_tf32=False
    ):
        yield


def choose_precision(model: Model, device: torch.device, wanted: Precision) -> str:
    """Return the precision to run a model in.

    Parameters
    ----------
    model : Model
    device : torch.device
    wanted : {"auto", "float32", "bfloat16", "float16"}
        "auto" measures (a fraction of a second to a few seconds) unless it was measured
        before with this version of torch.
    """
    if wanted != "auto":
        return wanted
    rival = _rival(device)
    if rival is None:
        return "float32"
    memory = _Memory(_memory_path())
    key = _key(model.card, str(device))
    known = memory.get(key)
    if known is None:
        try:
            known = rival if _is_better(model, device, rival) else "float32"
        except (RuntimeError, MemoryError):
            # No memory for the trial, or no such operation in that precision: the run itself
            # says what is wrong, if anything is. Tried again another time.
            return "float32"
        memory.set(key, known)
    return known


def likely_precision(card: ModelCard, device: str, wanted: Precision) -> str:
    """Return what :func:`choose_precision` will probably say, without measuring anything."""
    if wanted != "auto":
        return wanted
    return _Memory(_memory_path()).get(_key(card, device)) or "float32"


def _rival(device: torch.device) -> str | None:
    import torch

    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16" if device.type == "cpu" else None


def _is_better(model: Model, device: torch.device, rival: str) -> bool:
    import torch

    with torch.inference_mode(), full_precision():
        return _measure(model, device, rival)


def _measure(model: Model, device: torch.device, rival: str) -> bool:
    import torch

    from unet_studio.models.seams import texture

    card = model.card
    edge = -(-_TRIAL_EDGE[card.ndim] // card.stride) * card.stride
    image = texture(card.in_channels, (edge,) * card.ndim)
    runs: dict[str, tuple[nn.Module, torch.Tensor]] = {}
    for name in ("float32", rival):
        tile = image.to(device, getattr(torch, name))
        if card.ndim == 2:
            tile = tile.contiguous(memory_format=torch.channels_last)
        runs[name] = prepare(model.network, card, device, name), tile
    expected, found = (network(tile).float() for network, tile in runs.values())  # warms up, too
    error = float((found - expected).abs().mean() / expected.std().clamp(min=1e-12))
    if not error <= _LARGEST_ERROR:  # NaN, too
        return False
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS):
        for name, (network, tile) in runs.items():
            began = time.perf_counter()
            network(tile)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name].append(time.perf_counter() - began)
    slow, quick = (statistics.median(values) for values in seconds.values())
    return slow >= _SPEED_UP * quick


def _key(card: ModelCard, device: str) -> str:
    # Speed is a matter of the network's shape, not of its weights.
    shape = card.model_dump_json(
        include={"architecture", "options", "in_channels", "ndim", "representation"}
    )
    digest = hashlib.sha256(shape.encode()).hexdigest()[:16]
    return f"{card.architecture} {digest} | {_device_name(device)} | torch {version('torch')}"


def _device_name(device: str) -> str:
    torch = sys.modules.get("torch")
    if device.startswith("cuda"):
        if torch is None or not torch.cuda.is_available():
            return device
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line for line in lines if line.startswith("model name")).partition(":")[2]
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name.strip()} x{os.cpu_count()}"


def _memory_path() -> Path:
    home = os.environ.get("UNET_STUDIO_HOME")
    folder = Path(home) if home else platformdirs.user_cache_path("unet-studio")
    return folder / "precision.json"


class _Memory:
    """A small dictionary in a file. One that can not be read or written only costs time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> str | None:
        value = self._read().get(key)
        return value if value in BYTES else None

    def set(self, key: str, value: str) -> None:
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({**self._read(), key: value}, indent=1))
            partial.replace(self._path)
        except OSError:
            partial.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
