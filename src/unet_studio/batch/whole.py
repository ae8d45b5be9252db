"""Whole images on the workers of a dask cluster, in the order in which they are ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker, as_completed

from unet_studio.batch.cluster import NO_WORKERS
from unet_studio.batch.crew import LOST, TRIES, UNDER_WAY, gathered, lost_scheduler, refuse_lost
from unet_studio.batch.job import ItemResult, Task, ToSplit
from unet_studio.errors import SchedulerLost
from unet_studio.events import Warned

if TYPE_CHECKING:
    from unet_studio.events import CancelToken, Event

# Tasks that the scheduler knows of at a time: its memory stays flat.
_IN_FLIGHT = 500
# Between looks for what is done, and for Cancel.
_LOOK_S = 0.02
# Between counts of the workers while nothing is done, and how many times in a row there are
# none until that is told: one that died takes seconds to be replaced.
_COUNT_S, _COUNTS = 2.5, 2


class Whole:
    """Has the workers of a cluster do whole images.

    Parameters
    ----------
    client : distributed.Client
    work : callable
        Does one: ``work(task)``. It is sent to a worker with each task.
    token : CancelToken
        Looked at all the time.
    on_event : callable, optional
        Told if there are no workers.
    """

    def __init__(
        self,
        client: Any,
        work: Callable[[Task], ItemResult | ToSplit],
        token: CancelToken,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self._client, self._work, self._token = client, work, token
        self._on_event = on_event
        self._running: dict[Any, tuple[Task, int]] = {}
        self._done: Any = as_completed(loop=client.loop)  # type: ignore[no-untyped-call]
        self._looked, self._without = time.monotonic(), 0

    def results(self, tasks: Sequence[Task]) -> Iterator[ItemResult | ToSplit]:
        """Yield what became of each image; what a dead worker had is done by another one.

        Raises
        ------
        Cancelled
            If the token was set. Nobody waits for what workers are at then.
        SchedulerLost
        """
        waiting = iter(tasks)
        while True:
            while len(self._running) < _IN_FLIGHT and (task := next(waiting, None)) is not None:
                self._hand_out(task)
            if not self._running:
                return
            self._wait()
            future = next(self._done)
            if future.status in UNDER_WAY:
                self._done.add(future)
                continue
            task, tries = self._running.pop(future)
            if future.status == "error" and isinstance(future.exception(), KilledWorker):
                if tries < TRIES:
                    self._hand_out(task, tries + 1)
                    continue
            yield self._result_of(future, task)

    def _hand_out(self, task: Task, tries: int = 1) -> None:
        with lost_scheduler(self._client):
            future = self._client.submit(self._work, task, pure=False)
        self._running[future] = task, tries
        self._done.add(future)

    def _wait(self) -> None:
        """Return when something is done."""
        while not self._done.has_ready():
            self._token.raise_if_cancelled()
            refuse_lost(self._client)
            self._tell_if_alone()
            time.sleep(_LOOK_S)
        self._token.raise_if_cancelled()

    def _tell_if_alone(self) -> None:
        """Tell once that there are no workers, until there were some again."""
        if time.monotonic() - self._looked < _COUNT_S:
            return
        self._looked = time.monotonic()
        with suppress(OSError):  # the scheduler is lost, as will be seen
            self._without = 0 if self._client.nthreads() else self._without + 1
            if self._without == _COUNTS and self._on_event is not None:
                self._on_event(Warned(NO_WORKERS))

    def _result_of(self, future: Any, task: Task) -> ItemResult | ToSplit:
        if future.status == "finished":
            result: ItemResult | ToSplit = gathered(self._client, [future])[0]
            return result
        error = future.exception() if future.status == "error" else None
        if error is None:
            raise SchedulerLost(LOST)
        item = task.item
        reason = (
            f"{item.name}: the workers that did it died ({type(error).__name__}), perhaps for "
            "want of memory. Give workers more memory, or run it with --through-disk."
            if isinstance(error, KilledWorker)
            else f"{item.name}: {error}. Run the batch again."
        )
        return ItemResult(
            item.name, "failed", reason=reason, path=str(item.path), series=item.series
        )
