"""Many small pieces of work on the workers of a dask cluster, in order, with flat memory."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from distributed import KilledWorker, WorkerPlugin
from distributed.comm.core import CommClosedError

from unet_studio.errors import Cancelled, OutputError, SchedulerLost

if TYPE_CHECKING:
    from unet_studio.events import CancelToken

Item = TypeVar("Item")
Result = TypeVar("Result")

# Tasks that the scheduler knows of at a time: at least, and for each thread.
_LEAST, _PER_THREAD = 128, 4
_COUNT_S = 10.0  # workers may come and go
_LOOK_S = 0.01
# A task is given up after so many times dask's number of deaths (3, then it gives up). Where
# workers are preempted all the time, chance alone reaches that.
TRIES = 3
# What lay with a worker that died, before it was fetched: the scheduler has it made again.
UNDER_WAY = ("pending", "lost")
LOST = "The dask scheduler was lost. What is done stays done: run the batch again."

# What this process was told to do with items, by name, and how many workers in it were told:
# those of one process share it, and one that goes must not take it from the others.
_KNOWN: dict[str, tuple[Callable[[Any], Any], int]] = {}
_KNOWN_LOCK = threading.Lock()


class _Telling(WorkerPlugin):
    """Brings work to every worker once, and to those that come later."""

    def __init__(self, key: str, work: Callable[[Any], Any]) -> None:
        self.key, self.work = key, work

    def setup(self, worker: Any) -> None:
        with _KNOWN_LOCK:
            _, told = _KNOWN.get(self.key, (self.work, 0))
            _KNOWN[self.key] = self.work, told + 1

    def teardown(self, worker: Any) -> None:
        with _KNOWN_LOCK:
            work, told = _KNOWN.pop(self.key, (self.work, 0))
            if told > 1:
                _KNOWN[self.key] = work, told - 1


def refuse_lost(client: Any) -> None:
    """Raise our error, if the client has lost its scheduler: what was handed out is lost, too.

    Raises
    ------
    SchedulerLost
    """
    if client.status != "running":
        raise SchedulerLost(LOST)


@contextmanager
def lost_scheduler(client: Any) -> Iterator[None]:
    """Raise whatever dask raises as our error, if the client has no scheduler any more.

    Raises
    ------
    SchedulerLost
    """
    try:
        yield
    except (OSError, CancelledError, TimeoutError, RuntimeError) as error:
        # What is lost on the way to a scheduler that is there is an error like any other.
        if isinstance(error, CommClosedError | CancelledError) or client.status != "running":
            raise SchedulerLost(LOST) from error
        raise


def gathered(client: Any, futures: list[Any]) -> list[Any]:
    """Return the results of finished work, which lie with the workers until now.

    Raises
    ------
    SchedulerLost
    """
    with lost_scheduler(client):
        results: list[Any] = client.gather(futures)
    return results


def _do(key: str, item: Any) -> Any:
    work, _ = _KNOWN[key]
    return work(item)


@dataclass
class _Waiting:
    """An item that was handed out."""

    item: Any
    future: Any
    tries: int = 1


class Crew:
    """Has the workers of a cluster do a piece of work on each of many items.

    Parameters
    ----------
    client : distributed.Client
    token : CancelToken
        Looked at all the time.
    """

    def __init__(self, client: Any, token: CancelToken) -> None:
        self._client, self._token = client, token
        self._room, self._counted = _LEAST, 0.0

    def each(self, work: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
        """Return the results of ``work(item)``, in the order of the items.

        The work itself (with all that it was bound to) is sent to each worker once; a
        task holds no more than its item. Only so many are handed out at a time, so there
        may be any number of them. What a dead worker had is done by another one.

        Raises
        ------
        Cancelled
            If the token was set. Nobody waits for what workers are at then.
        OutputError
            If an item killed all workers that tried.
        SchedulerLost
        Exception
            Of any other kind: what the work raised.
        """
        key = uuid.uuid4().hex
        name = getattr(getattr(work, "func", work), "__name__", "block").strip("_")
        self._client.register_plugin(_Telling(key, work), name=key)
        waiting: deque[_Waiting] = deque()
        try:
            yield from self._in_order(key, name, iter(items), waiting)
        finally:
            with suppress(Exception):  # the cluster may be gone, and so is all of it
                if waiting:
                    self._client.cancel([w.future for w in waiting])
                self._client.unregister_worker_plugin(key)

    def _in_order(
        self, key: str, name: str, items: Iterator[Any], waiting: deque[_Waiting]
    ) -> Iterator[Any]:
        numbers = itertools.count()
        left = True
        while True:
            room = self._window() - len(waiting)
            if left and room > len(waiting) // 4:
                fresh = list(itertools.islice(items, room))
                left = len(fresh) == room
                keys = [f"{name}-{key}-{next(numbers)}" for _ in fresh]
                waiting.extend(map(_Waiting, fresh, self._hand_out(key, keys, fresh)))
            if not waiting:
                return
            self._token.raise_if_cancelled()
            refuse_lost(self._client)
            done = list(itertools.takewhile(lambda w: w.future.done(), waiting))
            ready = list(itertools.takewhile(lambda w: w.future.status == "finished", done))
            if ready:
                results = gathered(self._client, [w.future for w in ready])
                for result in results:
                    waiting.popleft()
                    yield result
            elif done and waiting[0].future.status not in UNDER_WAY:
                again = f"{name}-{key}-{next(numbers)}"
                self._try_again(key, again, waiting[0])
            else:
                time.sleep(_LOOK_S)

    def _hand_out(self, key: str, keys: list[str], items: list[Any]) -> list[Any]:
        if not items:
            return []
        with lost_scheduler(self._client):
            futures: list[Any] = self._client.map(
                _do, [key] * len(items), items, key=keys, pure=False
            )
        return futures

    def _try_again(self, key: str, name: str, failed: _Waiting) -> None:
        """Hand out an item again whose workers died; raise any other error."""
        error = failed.future.exception() if failed.future.status == "error" else None
        if error is None:
            raise SchedulerLost(LOST)
        # Where nobody cancelled, the scheduler took it back to give it to somebody else.
        if not isinstance(error, KilledWorker | Cancelled):
            raise error
        if failed.tries == TRIES:
            raise OutputError(
                "The workers that did a part of it died again and again, perhaps for want of "
                "memory. Give workers more memory, and run the batch again."
            ) from error
        failed.tries += 1
        failed.future = self._hand_out(key, [name], [failed.item])[0]

    def _window(self) -> int:
        if time.monotonic() - self._counted > _COUNT_S:
            threads = sum(self._client.nthreads().values())
            self._room = max(_LEAST, _PER_THREAD * threads)
            self._counted = time.monotonic()
        return self._room
