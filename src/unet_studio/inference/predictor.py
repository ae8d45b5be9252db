"""Tiled prediction: read a tile, run the network, keep its core, write it in place."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.events import CancelToken, Event, Started, TileDone, Warned
from unet_studio.images.normalisation import Scaling
from unet_studio.images.sampling import measure_scaling
from unet_studio.images.volume import Volume
from unet_studio.inference.blending import BlendedSum, blend_window
from unet_studio.inference.devices import open_device
from unet_studio.inference.executor import Executor, Keep
from unet_studio.inference.plan import RunPlan, spatial_axes
from unet_studio.inference.precision import choose_precision
from unet_studio.inference.prediction import Prediction
from unet_studio.inference.record import run_record
from unet_studio.inference.tiling import Tile
from unet_studio.models.model import Model

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard


# Logit of what is certainly not there.
_SURELY_NOT = -50.0


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
    output: Any = None,
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
    output : writable array, optional
        Of :func:`output_shape`, filled with 0: a Zarr array where memory would not
        hold the result. A new numpy array by default.

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
        If memory runs out even with the smallest tiles, on the CPU too.
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
    if output is None:
        output = np.zeros(
            output_shape(plan), np.float16 if keep == "probabilities" else np.float32
        )
    precision = "float32"
    if not len(scaling.constant_channels) == len(scaling.gain):
        precision = choose_precision(model, device, plan.recipe.precision)
        executor = Executor(model, plan, device, precision, keep, token)
        run = _Run(volume, model.card, plan, scaling, executor, keep)
        bad = yield from run.fill(output, axes.names, token)
        device, precision = executor.device, executor.precision
        warnings += run.notices
        if bad:
            warnings.append(
                f"{bad:,} pixels of {plan.info.name!r} are NaN or infinite; they count as "
                "background."
            )
            yield Warned(warnings[-1])
    seconds = time.perf_counter() - began
    record = run_record(plan, model, scaling, str(device), precision, seconds, warnings)
    return Prediction(output, axes, model.card, plan.info, record, tuple(warnings), keep)


def output_shape(plan: RunPlan) -> tuple[int, ...]:
    """Return the shape of a prediction, axes ``[T] C [Z] Y X``."""
    names = plan.info.axes.with_channels().names
    return tuple(plan.card.out_channels if a == "C" else plan.info.length(a) for a in names)


@dataclass(frozen=True)
class _Run:
    volume: Volume
    card: ModelCard
    plan: RunPlan
    scaling: Scaling
    executor: Executor
    keep: Keep
    notices: list[str] = field(default_factory=list)

    def fill(self, output: Any, names: str, token: CancelToken) -> Generator[Event, None, int]:
        """Predict all tiles into ``output`` (axes as in ``names``).

        Returns how many pixels were not finite.
        """
        blended = _Blending(self.plan, names) if self._blends else None
        done = bad = 0
        # Closed at once if the run fails or is cancelled: its thread must not go on.
        with closing(self._read_ahead()) as batches:
            for jobs, blocks, missing in batches:
                token.raise_if_cancelled()
                values = self.executor.run(blocks, [job.tile for job in jobs])
                while self.executor.notices:
                    self.notices.append(self.executor.notices.pop(0))
                    yield Warned(self.notices[-1])
                for job, value, lost in zip(jobs, values, missing, strict=True):
                    if lost is not None:
                        self._clear(value, lost[job.tile.local])
                        bad += self._new(job.tile, lost[job.tile.local])
                    if blended is not None:
                        blended.add(job, value, output)
                    else:
                        output[_region(names, job)] = value
                done += len(jobs)
                yield TileDone(done, self.plan.tile_count)
        return bad

    @property
    def _blends(self) -> bool:
        return self.plan.tiles.blend and self.plan.tiles.count > 1

    def _read_ahead(self) -> Generator[tuple[list[_Job], list[Any], list[Any]], None, None]:
        """Yield batches of tiles, the next one being read while one is at work."""

        def read(jobs: list[_Job]) -> tuple[list[_Job], list[Any], list[Any]]:
            pairs = [self._read(job) for job in jobs]
            return jobs, [block for block, _ in pairs], [lost for _, lost in pairs]

        pool = ThreadPoolExecutor(1, "unet-studio-read")
        waiting: Future[tuple[list[_Job], list[Any], list[Any]]] | None = None
        try:
            for jobs in self._batches():
                ready, waiting = waiting, pool.submit(read, jobs)
                if ready is not None:
                    yield ready.result()
                    del ready  # or its tiles would live on while the next ones are at work
            if waiting is not None:
                yield waiting.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _clear(self, value: NDArray[Any], lost: NDArray[np.bool_]) -> None:
        """Make pixels without a number background: any number would look like something."""
        logits = self.keep == "logits"
        value[:, lost] = _SURELY_NOT if logits else 0
        if self.card.representation == "classes":
            value[0, lost] = 0 if logits else 1

    def _new(self, tile: Tile, lost: NDArray[np.bool_]) -> int:
        """Count what of a tile no tile before it has counted: blended ones overlap."""
        fresh = []
        for spans, span in zip(self.plan.tiles.axes, tile.spans, strict=True):
            before = [s.keep_stop for s in spans if s.keep_start < span.keep_start]
            fresh.append(slice(max(0, max(before, default=0) - span.keep_start), None))
        return int(lost[tuple(fresh)].sum())

    def _batches(self) -> Iterator[list[_Job]]:
        outer = [a for a in "TZ" if a in self.volume.axes and a not in spatial_axes(self.card)]
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
        spans = zip(spatial_axes(self.card), job.tile.spans, strict=True)
        for axis, span in spans:
            stop = min(span.stop, self.plan.info.length(axis))
            region[axis] = slice(span.start, stop)
            pad.append((0, span.stop - stop))
        block = self.volume.read(region, self.plan.channels)
        lost = None
        if block.dtype.kind == "f":
            # A constant channel tells nothing, so what is missing of it is no loss.
            luma = self.plan.channel_map.luma  # its gain is that of the mixture
            telling = [i for i in range(len(block)) if luma or self.scaling.gain[i]]
            missing = ~np.isfinite(block[telling]).all(axis=0)
            lost = np.pad(missing, pad[1:]) if missing.any() else None
        block = self.scaling.apply(self.plan.channel_map.mix(block))
        block = self.plan.channel_map.expand(block)
        # Continue by reflection: zeros would look like an edge to the network.
        padded = np.pad(block, pad, mode="symmetric") if any(p for _, p in pad) else block
        return padded, lost


class _Blending:
    """Weighted sums of the frame at work, until all of its tiles are there."""

    def __init__(self, plan: RunPlan, names: str) -> None:
        self._plan, self._names = plan, names
        self._window = blend_window(plan.tile_shape)
        self._sums: BlendedSum | None = None

    def add(self, job: _Job, value: NDArray[Any], output: Any) -> None:
        """Add a tile; write the frame to ``output`` with its last one."""
        if self._sums is None:
            self._sums = BlendedSum((len(value), *self._plan.tiles.shape))
        self._sums.add((slice(None), *job.tile.write), value, self._window[job.tile.local])
        if self._sums.tiles == self._plan.tiles.count:
            output[_frame_key(self._names, job.frame)] = self._sums.mean()
            self._sums = None


def _frame_key(names: str, frame: tuple[tuple[str, int], ...]) -> tuple[slice | int, ...]:
    positions = dict(frame)
    return tuple(positions.get(a, slice(None)) for a in names)


def _region(names: str, job: _Job) -> tuple[slice | int, ...]:
    """Where in the whole output a tile's kept part goes."""
    positions: dict[str, slice | int] = dict(job.frame)
    positions.update(zip("ZYX"[-len(job.tile.spans) :], job.tile.write, strict=True))
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
