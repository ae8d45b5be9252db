"""A batch on dask.distributed: items are the unit, workers load the model once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from unet_studio.batch.job import ItemResult, Job, Task
from unet_studio.batch.stages import do_item
from unet_studio.errors import ModelError, OutputError, RecipeError

if TYPE_CHECKING:
    from unet_studio.events import CancelToken
    from unet_studio.models.model import Model

# Tasks that the scheduler knows of at a time: its memory stays flat.
_IN_FLIGHT = 500
_CONNECT_S = "15s"
# Between looks for what is done, and for Cancel.
_LOOK_S = 0.02


def run_on_cluster(
    tasks: Sequence[Task],
    job: Job,
    workers: int | None,
    scheduler: str | None,
    token: CancelToken,
) -> Iterator[ItemResult]:
    """Do the items on dask workers, in the order in which they are ready.

    An item whose worker died is given to another one; after dask's number of deaths
    (``distributed.scheduler.allowed-failures``, 3) it fails alone.

    Parameters
    ----------
    tasks : sequence of Task
    job : Job
    workers : int or None
        Number of processes to start here, one thread each.
    scheduler : str or None
        Address of a scheduler to use instead.
    token : CancelToken
        Looked at all the time; items that workers have begun are not waited for.

    Raises
    ------
    Cancelled
    RecipeError
        If dask.distributed is not installed, or both are given.
    OutputError
        If the scheduler can not be reached.
    """
    if workers and scheduler:
        raise RecipeError("Give --workers or --scheduler, not both.")
    try:
        import distributed
    except ImportError:
        raise RecipeError(
            "Several processes need dask.distributed, which is not installed. Install it with "
            "'pip install \"napari-unet-studio[cluster]\"'."
        ) from None
    with ExitStack() as stack:
        client = stack.enter_context(_client(distributed, stack, workers, scheduler))
        yield from _results(distributed, client, tasks, job, token, bool(workers))


def _client(distributed: Any, stack: ExitStack, workers: int | None, scheduler: str | None) -> Any:
    if scheduler:
        try:
            return distributed.Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise OutputError(
                f"The dask scheduler {scheduler} can not be reached: {error}. Check the address "
                "and that it is running."
            ) from None
    cluster = distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        host="127.0.0.1",
        silence_logs=40,
    )
    return distributed.Client(stack.enter_context(cluster), set_as_default=False)


def _results(
    distributed: Any, client: Any, tasks: Sequence[Task], job: Job, token: CancelToken, ours: bool
) -> Iterator[ItemResult]:
    waiting = iter(tasks)
    running: dict[Any, Task] = {}
    done = distributed.as_completed(loop=client.loop)
    while True:
        while len(running) < _IN_FLIGHT and (task := next(waiting, None)) is not None:
            future = client.submit(do_remotely, task, job, ours, pure=False)
            running[future] = task
            done.add(future)
        if not running:
            return
        while not done.has_ready():
            token.raise_if_cancelled()
            time.sleep(_LOOK_S)
        token.raise_if_cancelled()
        future = next(done)
        yield _result_of(future, running.pop(future))


def _result_of(future: Any, task: Task) -> ItemResult:
    if future.status == "finished":
        result: ItemResult = future.result()
        return result
    error = future.exception() if future.status == "error" else None
    reason = (
        f"{task.item.name}: the workers that did it died ({type(error).__name__}), perhaps for "
        "want of memory. Give workers more memory, or run it with --through-disk."
        if type(error).__name__ == "KilledWorker"
        else f"{task.item.name}: {error or 'the scheduler was lost'}. Run the batch again."
    )
    item = task.item
    return ItemResult(item.name, "failed", reason=reason, path=str(item.path), series=item.series)


def do_remotely(task: Task, job: Job, spread: bool = False) -> ItemResult:
    """Do one item on a worker.

    Parameters
    ----------
    task : Task
    job : Job
    spread : bool
        Take one GPU for each worker, if there are several. Workers that others started
        were given theirs by them.

    Raises
    ------
    ModelError
        If the worker sees another model file than the one the batch was started with.
    """
    model = _loaded(job.recipe.model, job.model_sha256)
    if spread:
        from distributed import get_worker

        from unet_studio.inference.devices import likely_devices

        device = own_device(job.recipe.device, get_worker().name, likely_devices())
        job = replace(job, recipe=job.recipe.model_copy(update={"device": device}))
    return do_item(task, job, model)


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


@lru_cache(maxsize=1)  # once per worker process, not once per item
def _loaded(reference: str, sha256: str) -> Model:
    from unet_studio.models.model import load_model

    model = load_model(reference)
    if model.sha256 != sha256:
        raise ModelError(
            f"The model {reference} of this worker is not the one that the batch was started "
            "with. Put the same file under the same path on all machines."
        )
    return model
