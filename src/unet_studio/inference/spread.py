"""Predict one image in many processes: each predicts batches of tiles, and writes them down.

What all of them have to agree on (tiles, scaling, back end, precision) is settled once,
in a :class:`Survey`. A tile is written under its number, whole or not at all, so that it
does not matter if it is predicted twice; a :class:`Mosaic` reads them as one array.
"""

from __future__ import annotations

import itertools
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import ImageError
from unet_studio.events import CancelToken
from unet_studio.images.normalisation import Scaling
from unet_studio.inference.choice import as_record, choose, planned_device, remembered
from unet_studio.inference.decision import Decision
from unet_studio.inference.devices import open_devices
from unet_studio.inference.executor import Executor, Keep
from unet_studio.inference.intake import Intake
from unet_studio.inference.plan import RunPlan
from unet_studio.inference.prediction import Prediction
from unet_studio.inference.predictor import (
    TileRun,
    intensity_warnings,
    lost_warning,
    outer_axes,
    output_shape,
    region_of,
    scaling_of,
)
from unet_studio.inference.record import run_record
from unet_studio.inference.tiling import Tile
from unet_studio.inference.trials import Numerics

if TYPE_CHECKING:
    from unet_studio.images.volume import Volume
    from unet_studio.models.model import Model

_CHUNK = {2: (512, 512), 3: (8, 256, 256)}
_OPEN = 256  # tiles whose headers are kept


@dataclass(frozen=True)
class Survey:
    """What has to be known of an image before its tiles are predicted one by one.

    Attributes
    ----------
    plan : RunPlan
    scaling : Scaling
        Measured on the whole image.
    numerics : Numerics
        What the network runs in, everywhere.
    keep : {"probabilities"} or Decision
    device : str
        Where it was surveyed.
    warnings : tuple of str
    trials : dict
        What was measured to choose ``numerics``, for the run record.
    """

    plan: RunPlan
    scaling: Scaling
    numerics: Numerics
    keep: Keep
    device: str
    warnings: tuple[str, ...]
    trials: dict[str, Any]

    @property
    def constant(self) -> bool:
        """Whether there is nothing in the image to predict."""
        return len(self.scaling.constant_channels) == len(self.scaling.gain)

    @property
    def batches(self) -> int:
        """Batches of tiles: the pieces of the work."""
        return -(-self.plan.tile_count // self.plan.batch)


def can_spread(plan: RunPlan) -> bool:
    """Whether tiles can be predicted apart: those that are averaged need each other."""
    averaged = plan.views or (plan.tiles.blend and plan.tiles.count > 1)
    return not averaged and plan.card.preparation is None


def survey(volume: Volume, model: Model, plan: RunPlan, keep: Keep) -> Survey:
    """Settle what all who predict tiles of an image have to agree on.

    Parameters are those of :func:`unet_studio.inference.predictor.predict_steps`.

    Raises
    ------
    ImageError
        If the image can not be read, or no pixel is finite.
    """
    devices, notice = open_devices(planned_device(plan.recipe), plan.tile_count)
    scaling = scaling_of(volume, model.card, plan)
    warnings = [*model.notes, *plan.warnings, *([notice] if notice else [])]
    warnings += intensity_warnings(scaling, plan)
    numerics = choose(model, devices[0], plan.recipe, plan.network_pixels)
    device = str(devices[0])
    trials = as_record(remembered(model.card, device))
    return Survey(plan, scaling, numerics, keep, device, tuple(warnings), trials)


class TilePainter:
    """Predicts batches of tiles in the calling thread, and writes them down.

    Parameters
    ----------
    volume, model
        Those of the survey.
    survey : Survey
    device : str
        As in a recipe: where to run.
    """

    def __init__(self, volume: Volume, model: Model, survey: Survey, device: str) -> None:
        recipe = survey.plan.recipe.model_copy(update={"device": device})
        plan = replace(survey.plan, recipe=recipe)
        devices, _ = open_devices(planned_device(recipe), 1)
        intake = Intake(survey.scaling, plan.channel_map)
        self._executor = Executor(
            model, plan, devices[0], survey.numerics, survey.keep, CancelToken(), intake
        )
        self._run = TileRun(
            volume, model.card, plan, survey.scaling, [self._executor], survey.keep
        )

    def paint(self, number: int, folder: Path) -> tuple[int, tuple[str, ...]]:
        """Predict a batch of tiles into a folder.

        Parameters
        ----------
        number : int
            Of the batch, counted from 0; it is made up as in a run over all of them.
        folder : Path
            Each tile goes to a Zarr array of its number in it.

        Returns
        -------
        int
            How many pixels were not finite.
        tuple of str
            What had to be changed for want of memory.

        Raises
        ------
        ImageError
            If a part of the image can not be read.
        """
        run = self._run
        first = number * run.plan.batch
        last = min(first + run.plan.batch, run.plan.tile_count)
        jobs = [run.job(n) for n in range(first, last)]
        blocks, missing = zip(*map(run.read, jobs), strict=True)
        values = self._executor.run(blocks, [job.tile for job in jobs])
        bad = sum(map(run.clean, jobs, values, missing))
        for index, value in zip(range(first, last), values, strict=True):
            write_tile(folder / str(index), value)
        return bad, tuple(self._executor.notices)


def write_tile(place: Path, value: NDArray[Any]) -> None:
    """Write a tile (C, [Z,] Y, X) as a Zarr array that is there whole or not at all.

    Zarr would make a folder anew that was removed because the image was cancelled. Here it
    packs the tile in memory, and the folder of ``place`` has to exist.

    Raises
    ------
    OSError
        If it does not, or the disk does not take it.
    """
    import zarr
    from zarr.codecs import BloscCodec
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    partial = place.with_name(f"{place.name}-{uuid.uuid4().hex}")
    inner = _CHUNK[value.ndim - 1]
    chunks = (len(value), *(min(n, c) for n, c in zip(value.shape[1:], inner, strict=True)))
    stored = zarr.create_array(
        store=MemoryStore(files), shape=value.shape, chunks=chunks, dtype=value.dtype,
        compressors=BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"), fill_value=0,
    )  # fmt: skip
    stored[...] = value
    try:
        partial.mkdir()
        for key, content in files.items():
            _write_file(partial, key, content.to_bytes())
        partial.rename(place)
    except OSError:
        if not place.is_dir():  # else somebody was first, with the same
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_file(folder: Path, key: str, content: bytes) -> None:
    """Write a file of a Zarr array; only folders inside of ``folder`` are made."""
    *parents, name = key.split("/")
    for parent in parents:
        folder = folder / parent
        folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


@lru_cache(maxsize=_OPEN)
def _opened(path: str) -> Any:
    import zarr

    return zarr.open_array(path, mode="r")


@dataclass(frozen=True)
class Mosaic:
    """Tiles on the disk, read as one array: numpy-like slicing with step 1, and whole numbers.

    Axes are ``[T] C [Z] Y X``, or without C where tiles hold classes.

    Attributes
    ----------
    folder : Path
    plan : RunPlan
    classes : bool
        Whether tiles hold uint8 classes, not float16 probabilities.
    """

    folder: Path
    plan: RunPlan
    classes: bool = False

    @property
    def _names(self) -> str:
        names = self.plan.info.axes.with_channels().names
        return names.replace("C", "") if self.classes else names

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        pairs = zip(
            self.plan.info.axes.with_channels().names, output_shape(self.plan), strict=True
        )
        return tuple(n for a, n in pairs if a in self._names)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(np.uint8 if self.classes else np.float16)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Parts that are read fast."""
        inner = _CHUNK[self.plan.card.ndim]
        outer = self.ndim - len(inner)
        return tuple(min(n, c) for n, c in zip(self.shape, (1,) * outer + inner, strict=True))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part.

        Raises
        ------
        ImageError
            If a tile is not there.
        """
        keys = key if isinstance(key, tuple) else (key,)
        keys = keys + (slice(None),) * (self.ndim - len(keys))
        bounds = [
            range(*k.indices(n)) if isinstance(k, slice) else range(k, k + 1)
            for k, n in zip(keys, self.shape, strict=True)
        ]
        part = np.zeros([len(b) for b in bounds], self.dtype)
        for number, frame, tile in self._tiles(bounds):
            self._paste(part, bounds, number, frame, tile)
        return part[tuple(slice(None) if isinstance(k, slice) else 0 for k in keys)]

    def _tiles(self, bounds: list[range]) -> Iterator[tuple[int, dict[str, int], Tile]]:
        """Yield number, position and geometry of the tiles that a part meets."""
        plan, places = self.plan, dict(zip(self._names, bounds, strict=True))
        outer = outer_axes(plan)
        lengths = [plan.info.length(a) for a in outer]
        spatial = self._names[-plan.card.ndim :]
        met = [
            [
                i for i, s in enumerate(spans)
                if s.keep_start < places[a].stop and s.keep_stop > places[a].start
            ]
            for a, spans in zip(spatial, plan.tiles.axes, strict=True)
        ]  # fmt: skip
        counts = [len(spans) for spans in plan.tiles.axes]
        for frame in itertools.product(*(places[a] for a in outer)):
            first = _flat(frame, lengths) * plan.tiles.count
            for index in itertools.product(*met):
                spans = tuple(s[i] for s, i in zip(plan.tiles.axes, index, strict=True))
                at = dict(zip(outer, frame, strict=True))
                yield first + _flat(index, counts), at, Tile(spans)

    def _paste(
        self,
        part: NDArray[Any],
        bounds: list[range],
        number: int,
        frame: dict[str, int],
        tile: Tile,
    ) -> None:
        """Copy what a tile has of a part."""
        stored = self._stored(number)
        from_tile: list[Any] = [0 if self.classes else slice(None)]
        into: list[Any] = []
        where = region_of(self._names, tuple(frame.items()), tile.write)
        for axis, place, bound in zip(self._names, where, bounds, strict=True):
            if axis == "C":
                from_tile[0] = slice(bound.start, bound.stop)
                into.append(slice(None))
            elif isinstance(place, int):
                into.append(place - bound.start)
            else:
                low, high = max(place.start, bound.start), min(place.stop, bound.stop)
                from_tile.append(slice(low - place.start, high - place.start))
                into.append(slice(low - bound.start, high - bound.start))
        part[tuple(into)] = stored[tuple(from_tile)]

    def _stored(self, number: int) -> Any:
        try:
            return _opened(str(self.folder / str(number)))
        except Exception as error:  # any storage back end raises its own
            raise ImageError(
                f"A tile of the prediction of {self.plan.info.name!r} is not there: "
                f"{str(error) or type(error).__name__}. All workers have to see the same output "
                "folder; check that, and run again."
            ) from error


def _flat(index: tuple[int, ...], shape: list[int]) -> int:
    number = 0
    for i, n in zip(index, shape, strict=True):
        number = number * n + i
    return number


def mosaic_prediction(
    mosaic: Mosaic,
    surveyed: Survey,
    model: Model,
    painted: list[tuple[int, tuple[str, ...]]],
    seconds: float,
) -> Prediction:
    """Put together what is to be said of a prediction whose tiles are all there.

    Parameters
    ----------
    mosaic : Mosaic
    surveyed : Survey
    model : Model
    painted : list of tuple
        What :meth:`TilePainter.paint` returned of each batch.
    seconds : float
        By the clock.
    """
    plan = surveyed.plan
    warnings = list(surveyed.warnings)
    for notice in itertools.chain.from_iterable(notices for _, notices in painted):
        if notice not in warnings:
            warnings.append(notice)
    if bad := sum(count for count, _ in painted):
        warnings.append(lost_warning(bad, plan))
    axes = plan.info.axes.with_channels()
    record = run_record(
        plan, model, surveyed.scaling, [surveyed.device], surveyed.numerics, surveyed.trials,
        seconds, warnings,
    )  # fmt: skip
    decided = isinstance(surveyed.keep, Decision)
    tiles: Any = mosaic  # read as an array is
    return Prediction(
        tiles, axes.without("C") if decided else axes, model.card, plan.info, record,
        tuple(warnings), "classes" if decided else "probabilities",
    )  # fmt: skip
