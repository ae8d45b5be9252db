"""Tiled prediction: read a tile, run the network, keep its core, write it in place."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unet_studio.errors import RecipeError
from unet_studio.events import CancelToken, Event, Started, TileDone, Warned
from unet_studio.images.normalisation import Scaling
from unet_studio.images.sampling import measure_scaling
from unet_studio.images.volume import Volume
from unet_studio.inference.blending import BlendedSum, blend_window
from unet_studio.inference.devices import open_device
from unet_studio.inference.plan import RunPlan, spatial_axes
from unet_studio.inference.prediction import Prediction
from unet_studio.inference.record import run_record
from unet_studio.inference.tiling import Tile
from unet_studio.models.model import Model

if TYPE_CHECKING:
    from torch import nn

Keep = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class _Job:
    """One tile of one frame."""

    frame: tuple[tuple[str, int], ...]
    tile: Tile


def predict_steps(
    volume: Volume,
    model: Model,
    plan: RunPlan,
    *,
    token: CancelToken | None = None,
    keep: Keep = "probabilities",
) -> Generator[Event, None, Prediction]:
    """Predict an image, tile by tile.

    Parameters
    ----------
    volume : Volume
    model : Model
    plan : RunPlan
        As resolved for this volume and model.
    token : CancelToken, optional
        Looked at between tiles, and between the layers within a tile.
    keep : {"probabilities", "logits"}
        What to return: float16 probabilities or float32 logits.

    Yields
    ------
    Event
        Started, TileDone, Warned.

    Returns
    -------
    Prediction

    Raises
    ------
    Cancelled
        If the token was set.
    ImageError
        If a part of the image can not be read, or no pixel is finite.
    RecipeError
        If the device runs out of memory.
    """
    token = token or CancelToken()
    began = time.perf_counter()
    device, notice = open_device(plan.recipe.device)
    warnings = [*model.notes, *plan.warnings, *([notice] if notice else [])]
    yield Started("measuring intensities")
    normalisation = plan.recipe.normalisation or model.card.normalisation
    scaling = measure_scaling(
        volume, plan.channels, normalisation, plan.channel_map.mix, token.raise_if_cancelled
    )
    warnings += _intensity_warnings(scaling, plan)
    yield from (Warned(text) for text in warnings)
    yield Started("predicting", plan.tile_count)
    axes = volume.axes.with_channels()
    shape = tuple(model.card.out_channels if a == "C" else plan.info.length(a) for a in axes.names)
    output = np.zeros(shape, np.float16 if keep == "probabilities" else np.float32)
    if not len(scaling.constant_channels) == len(scaling.gain):
        run = _Run(volume, model, plan, scaling, device, keep)
        with _stops_within_a_tile(model.network, token), _full_precision():
            bad = yield from run.fill(output, axes.names, token)
        if bad:
            warnings.append(
                f"{bad:,} pixels of {plan.info.name!r} are NaN or infinite; they count as "
                "background."
            )
            yield Warned(warnings[-1])
    record = run_record(plan, model, scaling, str(device), time.perf_counter() - began, warnings)
    return Prediction(output, axes, model.card, plan.info, record, tuple(warnings), keep)


def activate(logits: torch.Tensor, representation: str) -> torch.Tensor:
    """Turn logits (N, C, ...) into probabilities: softmax over classes, else sigmoid."""
    return logits.softmax(dim=1) if representation == "classes" else logits.sigmoid()


def to_tensor(image: NDArray[np.float32], device: torch.device) -> torch.Tensor:
    """Copy a float32 array (N, C, ...) to a device, channels last where that is faster."""
    # A copy cures negative strides and read-only memory, which torch refuses.
    tensor = torch.from_numpy(np.array(image, dtype=np.float32, order="C", copy=True))
    tensor = tensor.to(device)
    if tensor.ndim == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor


@dataclass(frozen=True)
class _Run:
    volume: Volume
    model: Model
    plan: RunPlan
    scaling: Scaling
    device: torch.device
    keep: Keep

    def fill(
        self, output: NDArray[Any], names: str, token: CancelToken
    ) -> Generator[Event, None, int]:
        """Predict all tiles into ``output`` (axes as in ``names``).

        Returns how many pixels were not finite.
        """
        network = self.model.network.to(self.device)
        if self.model.card.ndim == 2:
            network = network.to(memory_format=torch.channels_last)
        sums: BlendedSum | None = None
        blending = self.plan.tiles.blend and self.plan.tiles.count > 1
        window = blend_window(self.plan.tile_shape)
        done = bad = 0
        for jobs in self._batches():
            token.raise_if_cancelled()
            blocks, missing = zip(*(self._read(job) for job in jobs), strict=True)
            values = self._forward(network, np.stack(blocks))
            for job, value, lost in zip(jobs, values, missing, strict=True):
                if lost is not None:
                    self._clear(value, lost)
                    bad += int(lost[job.tile.local].sum())
                target = output[_frame_key(names, job.frame)]
                inner = (slice(None), *job.tile.write)
                if blending:
                    if sums is None or sums.frame != job.frame:
                        sums = BlendedSum(job.frame, target.shape)
                    local = (slice(None), *job.tile.local)
                    sums.add(inner, value[local], window[job.tile.local])
                    if sums.tiles == self.plan.tiles.count:
                        target[...] = sums.mean()
                else:
                    target[inner] = value[(slice(None), *job.tile.local)]
            done += len(jobs)
            yield TileDone(done, self.plan.tile_count)
        return bad

    def _forward(self, network: nn.Module, blocks: NDArray[np.float32]) -> NDArray[Any]:
        """Run the network on a batch of tiles (N, C, [Z,] Y, X)."""
        try:
            with torch.inference_mode():
                logits = network(to_tensor(blocks, self.device))
                return np.asarray(self._finish(logits).cpu().numpy())
        except (torch.OutOfMemoryError, MemoryError):
            pass
        except RuntimeError as error:
            # torch's CPU allocator raises a bare RuntimeError.
            if "not enough memory" not in str(error):
                raise
        # Out of the except block: the exception, and with it the tensors of its frames, is gone.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        edge = max(self.plan.tile_shape)
        raise RecipeError(
            f"The {self.device} ran out of memory with tiles of {edge} pixels while predicting "
            f"{self.plan.info.name!r}. Choose smaller tiles (such as {edge // 2}) or another "
            "device."
        )

    def _clear(self, value: NDArray[Any], lost: NDArray[np.bool_]) -> None:
        """Make pixels without a number background: any number would look like something."""
        if self.keep == "probabilities":
            value[:, lost] = 0
            if self.model.card.representation == "classes":
                value[0, lost] = 1

    def _batches(self) -> Iterator[list[_Job]]:
        outer = [
            a for a in "TZ" if a in self.volume.axes and a not in spatial_axes(self.model.card)
        ]
        tiles = self.plan.tiles.tiles()
        jobs = (
            _Job(tuple(zip(outer, index, strict=True)), tile)
            for index in itertools.product(*(range(self.plan.info.length(a)) for a in outer))
            for tile in tiles
        )
        while batch := list(itertools.islice(jobs, self.plan.batch)):
            yield batch

    def _read(self, job: _Job) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Read, scale and pad one tile.

        Returns the tile, float32 (C, [Z,] Y, X), and where it is not finite, bool
        ([Z,] Y, X), or None if it is finite everywhere.
        """
        region: dict[str, slice | int] = dict(job.frame)
        pad = [(0, 0)]
        spans = zip(spatial_axes(self.model.card), job.tile.spans, strict=True)
        for axis, span in spans:
            stop = min(span.stop, self.plan.info.length(axis))
            region[axis] = slice(span.start, stop)
            pad.append((0, span.stop - stop))
        block = self.volume.read(region, self.plan.channels)
        lost = None
        if block.dtype.kind == "f":
            # A constant channel tells nothing, so what is missing of it is no loss.
            telling = [
                i for i, gain in enumerate(self.scaling.gain) if gain or self.plan.channel_map.luma
            ]
            missing = ~np.isfinite(block[telling]).all(axis=0)
            lost = np.pad(missing, pad[1:]) if missing.any() else None
        block = self.scaling.apply(self.plan.channel_map.mix(block))
        block = self.plan.channel_map.expand(block)
        # Continue by reflection: zeros would look like an edge to the network.
        padded = np.pad(block, pad, mode="symmetric") if any(p for _, p in pad) else block
        return padded, lost

    def _finish(self, logits: torch.Tensor) -> torch.Tensor:
        if self.keep == "logits":
            return logits.float()
        return activate(logits.float(), self.model.card.representation).half()


def _frame_key(names: str, frame: tuple[tuple[str, int], ...]) -> tuple[slice | int, ...]:
    positions = dict(frame)
    return tuple(positions.get(a, slice(None)) for a in names)


def _intensity_warnings(scaling: Scaling, plan: RunPlan) -> list[str]:
    constant = scaling.constant_channels
    if not constant:
        return []
    if len(constant) == len(scaling.gain):
        return [
            f"{plan.info.name!r} is constant: every pixel has the same value, so nothing was "
            "found. Check that the right channel or layer is chosen."
        ]
    named = ", ".join(str(plan.channels[c]) for c in constant)
    return [f"Channel {named} of {plan.info.name!r} is constant and carries no information."]


@contextmanager
def _stops_within_a_tile(network: nn.Module, token: CancelToken) -> Iterator[None]:
    """Let a cancel take effect between layers: a large tile can take many seconds."""

    owner = threading.get_ident()

    def look(*_: Any) -> None:
        # Another thread may run the same network under a token of its own.
        if threading.get_ident() == owner:
            token.raise_if_cancelled()

    hooks = [
        m.register_forward_pre_hook(look) for m in network.modules() if not list(m.children())
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep CUDA convolutions in fp32: TF32 would break the equality of tiles and whole."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=False, allow_tf32=False
    ):
        yield
