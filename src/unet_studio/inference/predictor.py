"""Tiled prediction: read a tile, run the network, keep its core, write it in place."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.events import CancelToken, Event, Started, TileDone, Warned
from unet_studio.images.kept_blocks import keep_chunks
from unet_studio.images.normalisation import Scaling
from unet_studio.images.sampling import measure_scaling
from unet_studio.images.volume import Volume
from unet_studio.inference.blending import BlendedSlabs
from unet_studio.inference.choice import (
    as_record,
    planned_device,
    trials_of,
)
from unet_studio.inference.decision import Decision
from unet_studio.inference.devices import open_devices
from unet_studio.inference.executor import Executor, Keep
from unet_studio.inference.forecast import KEPT_BYTES, KEPT_BYTES_ON_GPU
from unet_studio.inference.freed_memory import FreedMemory
from unet_studio.inference.intake import Intake
from unet_studio.inference.lanes import LinkedToken, make_executors, run_lanes
from unet_studio.inference.plan import RunPlan, spatial_axes
from unet_studio.inference.planes import Fill, average_views
from unet_studio.inference.prediction import Prediction
from unet_studio.inference.record import run_record
from unet_studio.inference.settling import settle_steps
from unet_studio.inference.tiling import Tile
from unet_studio.inference.trials import Numerics
from unet_studio.inference.writing import MOST_THREADS, Writer
from unet_studio.models.model import Model

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard


# Logit of what is certainly not there.
_SURELY_NOT = -50.0


@dataclass(frozen=True)
class TileJob:
    """One tile of one frame."""

    frame: tuple[tuple[str, int], ...]
    tile: Tile


# Tiles, what was read for each, and where that is not finite.
_Batch = tuple[list[TileJob], list[Any], list[Any]]


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
    keep : {"probabilities", "logits"} or Decision
        What to return: float16 probabilities, float32 logits, or uint8 classes (axes
        ``[T] [Z] Y X``; not for prepared, blended or averaged predictions).
    output : writable array, optional
        Of :func:`output_shape`, filled with 0: a Zarr array where memory would not
        hold the result. A new numpy array by default. Has to be given for a decision.

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
    if model.card.preparation is not None:
        from unet_studio.inference.prepared import predict_prepared_steps

        # What is decided can not be brought back onto the image's grid by interpolation.
        assert not isinstance(keep, Decision)
        steps = predict_prepared_steps(volume, model, plan, token=token, keep=keep, output=output)
        return (yield from steps)
    token = token or CancelToken()
    began = time.perf_counter()
    devices, notice = open_devices(planned_device(plan.recipe), plan.tile_count)
    warnings = [*model.notes, *plan.warnings, *([notice] if notice else [])]
    volume = keep_chunks(volume, KEPT_BYTES if devices[0].type == "cpu" else KEPT_BYTES_ON_GPU)
    yield Started("measuring intensities")
    scaling = scaling_of(volume, model.card, plan, token.raise_if_cancelled)
    warnings += intensity_warnings(scaling, plan)
    yield from (Warned(text) for text in warnings)
    yield Started("predicting", plan.tile_count)
    axes = volume.axes.with_channels()
    if output is None:
        output = empty_output(plan, keep)
    if isinstance(keep, Decision):
        axes = axes.without("C")
    numerics, used = Numerics(), [str(devices[0])]
    if not scaling.is_constant:
        settled = yield from settle_steps(model, devices[0], plan, token.raise_if_cancelled)
        warnings += settled.warnings
        stop = LinkedToken(token)
        intake = Intake(scaling, plan.channel_map)
        executors = make_executors(model, plan, devices, settled.numerics, keep, stop, intake)
        run = TileRun(volume, model.card, plan, scaling, executors, keep)
        bad = yield from run.fill(output, axes.names, token, stop)
        if plan.views:
            yield from average_views(volume, plan, output, axes.names, run.of_planes(token, stop))
        used = list(dict.fromkeys(str(executor.device) for executor in executors))
        numerics = executors[0].numerics
        warnings += run.notices
        if bad:
            warnings.append(lost_warning(bad, plan))
            yield Warned(warnings[-1])
    seconds = time.perf_counter() - began
    trials = as_record(trials_of(model, used[0], plan.recipe))
    record = run_record(plan, model, scaling, used, numerics, trials, seconds, warnings)
    kind = "classes" if isinstance(keep, Decision) else keep
    return Prediction(output, axes, model.card, plan.info, record, tuple(warnings), kind)


def scaling_of(
    volume: Volume, card: ModelCard, plan: RunPlan, check: Callable[[], None] | None = None
) -> Scaling:
    """Measure the scaling that a recipe, or else the model, asks for."""
    normalisation = plan.recipe.normalisation or card.normalisation
    return measure_scaling(volume, plan.channels, normalisation, plan.channel_map.mix, check)


def output_shape(plan: RunPlan) -> tuple[int, ...]:
    """Return the shape of a prediction, axes ``[T] C [Z] Y X``."""
    names = plan.info.axes.with_channels().names
    return tuple(plan.card.out_channels if a == "C" else plan.info.length(a) for a in names)


def empty_output(plan: RunPlan, keep: Keep) -> NDArray[np.floating[Any]]:
    """Return an array of 0 for probabilities (float16) or logits (float32) of a whole image."""
    return np.zeros(output_shape(plan), np.float16 if keep == "probabilities" else np.float32)


def make_background(
    value: NDArray[Any], lost: NDArray[np.bool_], card: ModelCard, keep: Keep
) -> None:
    """Make pixels without a number background: any number would look like something.

    Parameters
    ----------
    value : array, axes (C, [Z,] Y, X)
        Probabilities or logits, written to.
    lost : array of bool, axes ([Z,] Y, X)
    card : ModelCard
    keep : {"probabilities", "logits"} or Decision
        What ``value`` holds.
    """
    logits = keep == "logits"
    value[:, lost] = _SURELY_NOT if logits else 0
    if card.representation == "classes" and not isinstance(keep, Decision):
        value[0, lost] = 0 if logits else 1


@dataclass(frozen=True)
class TileRun:
    """The tiles of one image: reads, predicts and writes them."""

    volume: Volume
    card: ModelCard
    plan: RunPlan
    scaling: Scaling
    executors: list[Executor]
    keep: Keep
    notices: list[str] = field(default_factory=list)

    def fill(
        self, output: Any, names: str, token: CancelToken, stop: CancelToken
    ) -> Generator[Event, None, int]:
        """Predict all tiles into ``output`` (axes as in ``names``).

        Reading, the network and writing go on at once. Returns how many pixels were not
        finite.
        """
        # Beside a result on the disk, what the C library keeps of tiles would add up.
        freed = FreedMemory(keep=not self._on_cpu or isinstance(output, np.ndarray))
        channels = self.card.out_channels
        blended = BlendedSlabs(self.plan.tiles, channels) if self.plan.tiles.averages else None
        done = bad = 0
        # Closed at once if the run fails or is cancelled: their threads must not go on.
        with (
            Writer(output, self._threads) as writer,
            closing(self._read_ahead()) as batches,
            closing(run_lanes(self.executors, batches, _predict, stop)) as results,
        ):
            for (jobs, _, missing), values in results:
                token.raise_if_cancelled()
                yield from self._told()
                for job, value, lost in zip(jobs, values, missing, strict=True):
                    bad += self.clean(job, value, lost)
                    if blended is None:
                        region = region_of(names, job.frame, job.tile.write)
                        writer.put(region, value if "C" in names else value[0])
                    elif slab := blended.add(job.tile, value):
                        writer.put(region_of(names, job.frame, slab.region), slab.mean)
                done += len(jobs)
                freed.add(sum(value.size for value in values))
                yield TileDone(done, self.plan.tile_count)
            token.raise_if_cancelled()
        return bad

    def clean(self, job: TileJob, value: NDArray[Any], lost: NDArray[np.bool_] | None) -> int:
        """Make background where a tile is not finite; return how many pixels these are."""
        if lost is None:
            return 0
        make_background(value, lost[job.tile.local], self.card, self.keep)
        return self._new(job.tile, lost[job.tile.local])

    def _told(self) -> Iterator[Warned]:
        """Tell what executors had to change; what two of them say only once."""
        for executor in self.executors:
            while executor.notices:
                notice = executor.notices.pop(0)
                if notice not in self.notices:
                    self.notices.append(notice)
                    yield Warned(notice)

    def of_planes(self, token: CancelToken, stop: CancelToken) -> Fill:
        """Return what predicts planes along Z, with the same executors and scaling."""

        def fill(
            volume: Volume, plan: RunPlan, output: NDArray[Any]
        ) -> Generator[Event, None, int]:
            for executor in self.executors:
                executor.take_up(plan)
            run = replace(self, volume=volume, plan=plan)
            return (yield from run.fill(output, "CZYX", token, stop))

        return fill

    def _read_ahead(self) -> Generator[_Batch, None, None]:
        """Yield batches of tiles, the next ones being read while one is at work."""

        def read(jobs: list[TileJob]) -> _Batch:
            pairs = [self.read(job) for job in jobs]
            return jobs, [block for block, _ in pairs], [lost for _, lost in pairs]

        count = self._threads if self.volume.concurrent else 1
        pool = ThreadPoolExecutor(count, "unet-studio-read")
        waiting: deque[Future[_Batch]] = deque()
        try:
            for jobs in self._batches():
                waiting.append(pool.submit(read, jobs))
                if len(waiting) > count:
                    ready = waiting.popleft()
                    yield ready.result()
                    del ready  # or its tiles would live on while the next ones are at work
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    @property
    def _threads(self) -> int:
        """How many threads read, or write: a GPU would wait for one."""
        return 1 if self._on_cpu else min(MOST_THREADS, os.cpu_count() or 1)

    @property
    def _on_cpu(self) -> bool:
        return {executor.device.type for executor in self.executors} == {"cpu"}

    def _new(self, tile: Tile, lost: NDArray[np.bool_]) -> int:
        """Count what of a tile no tile before it has counted: blended ones overlap."""
        fresh = []
        for spans, span in zip(self.plan.tiles.axes, tile.spans, strict=True):
            before = [s.keep_stop for s in spans if s.keep_start < span.keep_start]
            fresh.append(slice(max(0, max(before, default=0) - span.keep_start), None))
        return int(lost[tuple(fresh)].sum())

    def _batches(self) -> Iterator[list[TileJob]]:
        jobs = map(self.job, range(len(self._tiles) * self.plan.frames))
        while batch := list(itertools.islice(jobs, self.plan.batch)):
            yield batch

    @cached_property
    def _tiles(self) -> list[Tile]:
        return self.plan.tiles.tiles()

    def job(self, number: int) -> TileJob:
        """Return a tile of a frame: tiles are counted frame by frame."""
        tiles, outer = self._tiles, outer_axes(self.plan)
        frame, tile = divmod(number, len(tiles))
        index = np.unravel_index(frame, [self.plan.info.length(a) for a in outer])
        return TileJob(tuple(zip(outer, map(int, index), strict=True)), tiles[tile])

    def read(self, job: TileJob) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Read and pad one tile.

        Returns the tile as it is stored, (C, [Z,] Y, X), and where it is not finite, bool
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
        lost = self._lost(block)
        if not any(after for _, after in pad):
            return block, lost
        # Continue by reflection: zeros would look like an edge to the network.
        padded = np.pad(block, pad, mode="symmetric")
        return padded, None if lost is None else np.pad(lost, pad[1:])

    def _lost(self, block: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Return where a block is not finite; None if it is finite everywhere."""
        if block.dtype.kind != "f" or np.isfinite(block).all():
            return None
        # A constant channel tells nothing, so what is missing of it is no loss.
        luma = self.plan.channel_map.luma  # its gain is that of the mixture
        telling = [i for i in range(len(block)) if luma or self.scaling.gain[i]]
        missing = ~np.isfinite(block[telling]).all(axis=0)
        return missing if missing.any() else None


def _predict(executor: Executor, batch: _Batch) -> list[NDArray[Any]]:
    jobs, blocks, _ = batch
    return executor.run(blocks, [job.tile for job in jobs])


def outer_axes(plan: RunPlan) -> str:
    """Return the axes whose every position is an image of its own to the network."""
    return "".join(a for a in "TZ" if a in plan.info.axes and a not in spatial_axes(plan.card))


def lost_warning(count: int, plan: RunPlan) -> str:
    """Say that pixels are not finite."""
    return f"{count:,} pixels of {plan.info.name!r} are NaN or infinite; they count as background."


def region_of(
    names: str, frame: tuple[tuple[str, int], ...], part: tuple[slice, ...]
) -> tuple[slice | int, ...]:
    """Where in the whole output a part of a frame goes."""
    positions: dict[str, slice | int] = dict(frame)
    positions.update(zip("ZYX"[-len(part) :], part, strict=True))
    return tuple(positions.get(a, slice(None)) for a in names)


def intensity_warnings(scaling: Scaling, plan: RunPlan) -> list[str]:
    """Say which channels are constant."""
    constant = scaling.constant_channels
    if not constant:
        return []
    if scaling.is_constant:
        return [
            f"{plan.info.name!r} is constant: every pixel has the same value, so nothing was "
            "found. Check that the right channel or layer is chosen."
        ]
    named = ", ".join(str(plan.channels[c]) for c in constant)
    return [f"Channel {named} of {plan.info.name!r} is constant and carries no information."]
