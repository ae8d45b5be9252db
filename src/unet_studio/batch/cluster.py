"""A batch on dask.distributed: workers load the model once, do items or parts of large ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from unet_studio.batch.job import ItemResult, Job, Task, ToSplit
from unet_studio.batch.stages import do_item
from unet_studio.batch.workers import TaskToken, device_here, loaded_model
from unet_studio.errors import OutputError, RecipeError

if TYPE_CHECKING:
    from unet_studio.events import CancelToken, Event

NO_WORKERS = "The dask scheduler has no workers. The batch waits, and goes on when one comes."
_CONNECT_S = "15s"
# Of workers that are started here. Nobody can look at what dask's profiler, a hundred times a
# second, finds in them, and looking takes some 4 % of their time.
_OURS = {"distributed.worker.profile.enabled": False}


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
    all workers. An item whose worker died is given to another one; after three times dask's
    number of deaths (``distributed.scheduler.allowed-failures``, 3) it fails alone.

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
        Called with the events of items that are split, and told if there are no workers.

    Raises
    ------
    Cancelled
    RecipeError
        If dask.distributed is not installed, or both are given.
    OutputError
        If the scheduler can not be reached.
    SchedulerLost
        If it goes away on the way.
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
    from unet_studio.batch.whole import Whole

    with ExitStack() as stack:
        client = stack.enter_context(_client(distributed, stack, workers, scheduler))
        large: list[Task] = []
        whole = Whole(client, partial(do_remotely, job=job, spread=bool(workers)), token, on_event)
        for result in whole.results(tasks):
            if isinstance(result, ToSplit):
                large.append(result.task)
            else:
                yield result
        for task in large:
            yield _by_blocks(client, task, job, token, bool(workers), on_event)


def _by_blocks(
    client: Any,
    task: Task,
    job: Job,
    token: CancelToken,
    ours: bool,
    on_event: Callable[[Event], None] | None,
) -> ItemResult:
    from unet_studio.batch.blocks import do_blocks
    from unet_studio.batch.crew import Crew
    from unet_studio.batch.whole import Whole

    each = Crew(client, token).each
    done = do_blocks(task, job, each, token, spread=ours, on_event=on_event)
    if done is not None:
        return done
    work = partial(do_remotely, job=replace(job, split_above=0), spread=ours)
    (alone,) = Whole(client, work, token, on_event).results([task])
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
            # None would be port 8787, which another batch may have; dask warns of that then.
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            # Errors come as results; of Ctrl+C in the middle of one, dask would log another.
            silence_logs=50,
            scheduler_kwargs={"dashboard": False},
            preload=["unet_studio.batch.quiet_worker"],
        )
    return distributed.Client(stack.enter_context(cluster), set_as_default=False)


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
