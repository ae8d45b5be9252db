"""Predict one image in many processes: each predicts batches of tiles, and writes them down.

What all of them have to agree on (tiles, scaling, back end, precision) is settled once,
in a :class:`Survey`. A tile is written under its number, whole or not at all, so that it
does not matter if it is predicted twice; a :class:`~unet_studio.inference.mosaic.Mosaic`
reads them as one array.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.events import CancelToken
from unet_studio.images.normalisation import Scaling
from unet_studio.inference.choice import planned_device
from unet_studio.inference.decision import Decision
from unet_studio.inference.devices import open_devices
from unet_studio.inference.executor import Executor, Keep
from unet_studio.inference.intake import Intake
from unet_studio.inference.mosaic import Mosaic, write_tile
from unet_studio.inference.plan import RunPlan
from unet_studio.inference.prediction import Prediction
from unet_studio.inference.predictor import (
    TileRun,
    intensity_warnings,
    lost_warning,
    scaling_of,
)
from unet_studio.inference.record import run_record
from unet_studio.inference.settling import settle
from unet_studio.inference.trials import Numerics

if TYPE_CHECKING:
    from unet_studio.images.volume import Volume
    from unet_studio.models.model import Model


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
        return self.scaling.is_constant

    @property
    def batches(self) -> int:
        """Batches of tiles: the pieces of the work."""
        return -(-self.plan.tile_count // self.plan.batch)


def can_spread(plan: RunPlan) -> bool:
    """Whether tiles can be predicted apart: those that are averaged need each other."""
    return not plan.averages and plan.card.preparation is None


def survey(
    volume: Volume,
    model: Model,
    plan: RunPlan,
    keep: Keep,
    check: Callable[[], None] = lambda: None,
) -> Survey:
    """Settle what all who predict tiles of an image have to agree on.

    Parameters are those of :func:`unet_studio.inference.predictor.predict_steps`;
    ``check`` is called again and again, and what it raises ends the work.

    Raises
    ------
    ImageError
        If the image can not be read, or no pixel is finite.
    """
    devices, notice = open_devices(planned_device(plan.recipe), plan.tile_count)
    scaling = scaling_of(volume, model.card, plan, check)
    warnings = [*model.notes, *plan.warnings, *([notice] if notice else [])]
    warnings += intensity_warnings(scaling, plan)
    settled = settle(model, devices[0], plan, check)
    warnings += settled.warnings
    device = str(devices[0])
    return Survey(plan, scaling, settled.numerics, keep, device, tuple(warnings), settled.trials)


class TilePainter:
    """Predicts batches of tiles in the calling thread, and writes them down.

    Parameters
    ----------
    volume, model
        Those of the survey.
    survey : Survey
    device : str
        As in a recipe: where to run.
    token : CancelToken
        Looked at before each layer.
    """

    def __init__(
        self, volume: Volume, model: Model, survey: Survey, device: str, token: CancelToken
    ) -> None:
        recipe = survey.plan.recipe.model_copy(update={"device": device})
        plan = replace(survey.plan, recipe=recipe)
        devices, _ = open_devices(planned_device(recipe), 1)
        intake = Intake(survey.scaling, plan.channel_map)
        self._executor = Executor(
            model, plan, devices[0], survey.numerics, survey.keep, token, intake
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
