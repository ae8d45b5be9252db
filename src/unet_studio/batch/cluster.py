"""A batch on dask.distributed: workers load the model once, do items or parts of large ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unet_studio.batch.job import ItemResult, Job, Task, ToSplit
from unet_studio.batch.stages import do_item
from unet_studio.batch.workers import TaskToken, device_here, loaded_model
from unet_studio.errors import OutputError, RecipeError

if TYPE_CHECKING:
    from unet_studio.events import CancelToken, Event

# Tasks that the scheduler knows of at a time: its memory stays flat.
_IN_FLIGHT = 500
_CONNECT_S = "15s"
# Of workers that are started here. Nobody can look at what dask's profiler, a hundred times a
# second, finds in them, and looking takes some 4 % of their time.
_OURS = {"distributed.worker.profile.enabled": False}
# Between looks for what is done, and for Cancel.
_LOOK_S = 0.02


def run_on_cluster(
    tasks: Sequence[Task],
    job: Job,
    workers: int | None,
    scheduler: str | None,
    token: CancelToken,
    on_event: Callable[[Event], None] | None = None,
) -> Iterator[ItemResult]:
    """Do the items on dask workers, in the order in which they are ready.

    Those that are to be split (``job.split_above``) come last, one after the other, each by
    all workers. An item whose worker died is given to another one; after dask's number of deaths
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
    on_event : callable, optional
        Called with the events of items that are split.

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
        large: list[Task] = []
        for result in _results(distributed, client, tasks, job, token, bool(workers)):
            if isinstance(result, ToSplit):
                large.append(result.task)
            else:
                yield result
        for task in large:
            yield _by_blocks(distributed, client, task, job, token, bool(workers), on_event)


def _by_blocks(
    distributed: Any,
    client: Any,
    task: Task,
    job: Job,
    token: CancelToken,
    ours: bool,
    on_event: Callable[[Event], None] | None,
) -> ItemResult:
    from unet_studio.batch.blocks import do_blocks
    from unet_studio.batch.crew import Crew

    each = Crew(client, token).each
    done = do_blocks(task, job, each, token, spread=ours, on_event=on_event)
    if done is not None:
        return done
    (alone,) = _results(distributed, client, [task], replace(job, split_above=0), token, ours)
    assert isinstance(alone, ItemResult)
    return alone


def _client(distributed: Any, stack: ExitStack, workers: int | None, scheduler: str | None) -> Any:
    if scheduler:
        try:
            return distributed.Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise OutputError(
                f"The dask scheduler {scheduler} can not be reached: {error}. Check the address "
                "and that it is running."
            ) from None
    import dask

    with dask.config.set(_OURS):
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
) -> Iterator[ItemResult | ToSplit]:
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


def _result_of(future: Any, task: Task) -> ItemResult | ToSplit:
    if future.status == "finished":
        result: ItemResult | ToSplit = future.result()
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


def do_remotely(task: Task, job: Job, spread: bool = False) -> ItemResult | ToSplit:
    """Do one item on a worker, unless it is to be done by many.

    Parameters
    ----------
    task : Task
    job : Job
    spread : bool
        As for :func:`unet_studio.batch.workers.device_here`.

    Raises
    ------
    ModelError
        If the worker sees another model file than the one the batch was started with.
    """
    model = loaded_model(job.recipe.model, job.model_sha256)
    recipe = job.recipe.model_copy(update={"device": device_here(job.recipe, spread)})
    return do_item(task, replace(job, recipe=recipe), model, TaskToken())
