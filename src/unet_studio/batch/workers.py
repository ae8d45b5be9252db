"""What a worker process has of its own: the model, a device, the image it works on."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.errors import ModelError
from unet_studio.events import CancelToken

if TYPE_CHECKING:
    from unet_studio.images.volume import Volume
    from unet_studio.models.model import Model
    from unet_studio.recipe import Recipe


@lru_cache(maxsize=1)  # once per worker process, not once per item
def loaded_model(reference: str, sha256: str) -> Model:
    """Load the model of a batch, once.

    Raises
    ------
    ModelError
        If this process sees another model file than the one the batch was started with.
    """
    from unet_studio.models.model import load_model

    model = load_model(reference)
    if model.sha256 != sha256:
        raise ModelError(
            f"The model {reference} of this worker is not the one that the batch was started "
            "with. Put the same file under the same path on all machines."
        )
    return model


class TaskToken(CancelToken):
    """Cancelled when nobody wants the result of a dask task any more.

    The task is that which the calling thread is at; in a thread that is at none, this is a
    token like any other. Any thread may look at it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.take_up()

    def take_up(self) -> None:
        """Go by the task that the calling thread is at now."""
        from distributed import get_worker

        self._tasks: Mapping[Any, Any] = {}
        self._key: Any = None
        with suppress(ValueError, KeyError):  # no worker, or between two tasks
            worker = get_worker()
            self._key, self._tasks = worker.get_current_task(), worker.state.tasks

    @property
    def cancelled(self) -> bool:
        """Whether the task was taken back."""
        task = self._tasks.get(self._key)
        # Dask says so until the thread is done with it.
        return super().cancelled or (task is not None and task.state == "cancelled")


def device_here(recipe: Recipe, spread: bool) -> str:
    """Return the device of the worker in whose process this runs.

    Parameters
    ----------
    recipe : Recipe
    spread : bool
        Take one GPU for each worker, if there are several. Workers that others started
        were given theirs by them.
    """
    from unet_studio.inference.choice import only_on_cpu

    if not spread or only_on_cpu(recipe):
        return recipe.device
    from distributed import get_worker

    from unet_studio.inference.devices import likely_devices

    return own_device(recipe.device, get_worker().name, likely_devices())


def own_device(asked: str, worker: object, devices: Sequence[str]) -> str:
    """Return the device of one of several workers: GPUs are dealt out in turn.

    Parameters
    ----------
    asked : str
        That of the recipe. Only "auto" and "cuda", which stand for all GPUs, are dealt out.
    worker : object
        Name of the worker: a number, where this program started it.
    devices : sequence of str
        Those of the computer.
    """
    gpus = [name for name in devices if name.startswith("cuda:")]
    if asked not in ("auto", "cuda") or not gpus or not str(worker).isdigit():
        return asked
    return gpus[int(str(worker)) % len(gpus)]


@dataclass(frozen=True)
class Source:
    """An image as a value that can travel: each process opens it for itself.

    Attributes
    ----------
    path : Path
    axes : str or None
        As for :func:`unet_studio.images.readers.read_image`.
    series : int
    """

    path: Path
    axes: str | None
    series: int

    def volume(self) -> Volume:
        """Open the image, once for each thread."""
        return _opened(self, threading.get_ident())


@lru_cache(maxsize=8)
def _opened(source: Source, _thread: int) -> Volume:
    from unet_studio.images.readers import read_image

    return read_image(source.path, source.axes, series=source.series)
