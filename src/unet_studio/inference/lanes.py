"""Several executors behind one queue: the lanes that batches of tiles go through.

Each lane is an executor in a thread of its own. Several GPUs have a lane or two
each; two lanes on one GPU let the copies of one tile run beside the network's
work on another. Results come out in the order in which batches went in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from unet_studio.events import CancelToken
from unet_studio.inference.executor import Executor, Keep
from unet_studio.inference.intake import Intake
from unet_studio.inference.precision import full_precision
from unet_studio.inference.transfer import StreamTransfer, Work

if TYPE_CHECKING:
    from unet_studio.inference.plan import RunPlan
    from unet_studio.inference.trials import Numerics
    from unet_studio.models.model import Model

Batch = TypeVar("Batch")
# While the network works on one tile, those before and after it are copied.
_LANES_PER_GPU = 2


class LinkedToken(CancelToken):
    """A token that is cancelled with another one, or alone.

    Parameters
    ----------
    parent : CancelToken
    """

    def __init__(self, parent: CancelToken) -> None:
        super().__init__()
        self._parent = parent

    @property
    def cancelled(self) -> bool:
        """Whether either was asked to stop."""
        return self._parent.cancelled or super().cancelled


def make_executors(
    model: Model,
    plan: RunPlan,
    devices: Sequence[torch.device],
    numerics: Numerics,
    keep: Keep,
    token: CancelToken,
    intake: Intake,
) -> list[Executor]:
    """Return the executors for a run: one for a CPU, two for a GPU that has several tiles.

    Parameters are those of :class:`~unet_studio.inference.executor.Executor`.
    """
    executors = []
    for device in devices:
        if device.type != "cuda" or plan.tile_count <= plan.batch:
            executors.append(Executor(model, plan, device, numerics, keep, token, intake))
            continue
        work = Work(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        executors += [
            Executor(model, plan, device, numerics, keep, token, intake, transfer)
            for transfer in (StreamTransfer(device, work) for _ in range(_LANES_PER_GPU))
        ]
    return executors


def run_lanes(
    executors: Sequence[Executor],
    batches: Iterable[Batch],
    work: Callable[[Executor, Batch], Any],
    stop: CancelToken,
) -> Generator[tuple[Batch, Any], None, None]:
    """Do some work on each batch, as many at once as there are executors.

    Parameters
    ----------
    executors : sequence of Executor
    batches : iterable
        Advanced in the caller's thread, and by one batch more than there are executors.
    work : callable
        Given an executor that is free and a batch, returns a result.
    stop : CancelToken
        Of the executors: cancelled if the work on one batch fails, or the generator is
        closed, so that the others end soon.

    Yields
    ------
    batch, result
        In the order of ``batches``.
    """
    if len(executors) == 1:
        for batch in batches:
            yield batch, work(executors[0], batch)
        return
    free: SimpleQueue[Executor] = SimpleQueue()
    for executor in executors:
        free.put(executor)

    causes: list[BaseException] = []

    def run(batch: Batch) -> tuple[Batch, Any]:
        executor = free.get()
        try:
            return batch, work(executor, batch)
        except BaseException as error:
            if not stop.cancelled:
                causes.append(error)
            stop.cancel()
            raise
        finally:
            free.put(executor)

    pool = ThreadPoolExecutor(len(executors), "unet-studio-lane")
    waiting: deque[Future[tuple[Batch, Any]]] = deque()
    # Here, too, and not only in each executor: torch has one such setting for all threads,
    # and the first to leave would set it back under the others.
    on_gpu = any(executor.device.type == "cuda" for executor in executors)
    with full_precision() if on_gpu else nullcontext():
        try:
            for batch in batches:
                waiting.append(pool.submit(run, batch))
                if len(waiting) > len(executors):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException as error:
            stop.cancel()
            # An earlier batch may only have been stopped because a later one failed.
            raise (causes[0] if causes else error) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
