"""How tiles get to a device and back.

On a CUDA device copies go through page-locked buffers and streams of their own,
so that those of one tile run beside the network's work on another. All
executors of one device share the stream that the network runs in, and enter it in
turn: its memory is used by one tile after the other, and not by several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

# Types that torch has no tensors of, or can do nothing with, and what carries their values.
_CARRIED = {
    "uint32": "int64", "uint64": "float64", "longdouble": "float64", "float128": "float64",
    "float96": "float64",
}  # fmt: skip
# What makes a network's input of tiles as they were read, on the device they lie on.
Prepare = Callable[[torch.Tensor], torch.Tensor]


class Transfer(Protocol):
    """Copies to and from a device."""

    def settle(self) -> None:
        """Let the network's work wait for its weights, which the caller has just copied."""

    def put(self, blocks: Sequence[NDArray[Any]], prepare: Prepare) -> torch.Tensor:
        """Return tiles (C, [Z,] Y, X) of one shape as a batch on the device, prepared."""

    def computing(self) -> AbstractContextManager[Any]:
        """Return what the network is called in."""

    def get(self, parts: Sequence[torch.Tensor]) -> list[NDArray[Any]]:
        """Return results, each contiguous in memory, as arrays of their own."""


class DirectTransfer:
    """Plain copies.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def settle(self) -> None:
        """Nothing has to wait: weights and work are in one stream."""

    def put(self, blocks: Sequence[NDArray[Any]], prepare: Prepare) -> torch.Tensor:
        """Return tiles as a batch on the device."""
        batch = _batch(blocks, torch.empty)
        if self._device.type == "cuda":
            return prepare(batch.to(self._device))
        return prepare(batch).to(self._device)  # Metal has no float64 to prepare them with

    def computing(self) -> AbstractContextManager[Any]:
        """Return what the network is called in: nothing special."""
        return nullcontext()

    def get(self, parts: Sequence[torch.Tensor]) -> list[NDArray[Any]]:
        """Return results as arrays."""
        return [np.asarray(part.cpu().numpy()) for part in parts]


@dataclass(frozen=True)
class Work:
    """The stream that the networks of one device run in.

    Attributes
    ----------
    stream : torch.cuda.Stream
    turn : lock
        Held while a network is launched.
    """

    stream: Any
    turn: Lock = field(default_factory=Lock)


class StreamTransfer:
    """Copies in streams of their own, beside the work of other executors of the device.

    Parameters
    ----------
    device : torch.device
    work : Work
        Shared by all executors of the device.
    cuda : module
        ``torch.cuda``, or a stand-in of tests.
    empty : callable, optional
        Makes a tensor, given its shape and dtype, in page-locked memory.
    """

    def __init__(
        self,
        device: torch.device,
        work: Work,
        cuda: Any = torch.cuda,
        empty: Callable[..., torch.Tensor] | None = None,
    ) -> None:
        self._device, self._work, self._cuda = device, work, cuda
        self._empty = empty or partial(torch.empty, pin_memory=True)
        self._in, self._out = cuda.Stream(device), cuda.Stream(device)
        self._done: Any = None  # when the network's work on the last tile ends

    def settle(self) -> None:
        """Let the network's work wait for its weights.

        They are copied, converted and put in order in the caller's stream, and such
        streams as ours do not wait for that one by themselves.
        """
        self._work.stream.wait_stream(self._cuda.current_stream(self._device))

    def put(self, blocks: Sequence[NDArray[Any]], prepare: Prepare) -> torch.Tensor:
        """Start to copy tiles; the work that follows waits for them on the device."""
        pinned = _batch(blocks, self._empty)
        with self._cuda.stream(self._in):
            tensor = prepare(pinned.to(self._device, non_blocking=True))
        self._work.stream.wait_stream(self._in)
        # It is freed by this thread while the other stream may still be reading it.
        tensor.record_stream(self._work.stream)
        # ``pinned`` may go: torch keeps page-locked memory until the copy is done.
        return tensor

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Return what puts the network's work into its stream, when its turn comes."""
        with self._work.turn, self._cuda.stream(self._work.stream):
            yield
            self._done = self._work.stream.record_event()

    def get(self, parts: Sequence[torch.Tensor]) -> list[NDArray[Any]]:
        """Copy results back and wait for them alone.

        They stay in page-locked memory: whoever gets them should let them go soon.
        """
        self._out.wait_event(self._done)  # and not for the network's work on the next tile
        with self._cuda.stream(self._out):
            buffers = [self._empty(tuple(part.shape), dtype=part.dtype) for part in parts]
            for buffer, part in zip(buffers, parts, strict=True):
                buffer.copy_(part, non_blocking=True)
                part.record_stream(self._out)
        self._out.synchronize()
        return [buffer.numpy() for buffer in buffers]


def _batch(blocks: Sequence[NDArray[Any]], empty: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Copy tiles into one new tensor (N, C, [Z,] Y, X)."""
    first = blocks[0]
    known = _CARRIED.get(first.dtype.name, first.dtype)
    dtype = torch.from_numpy(np.empty(0, known)).dtype
    batch = empty((len(blocks), *first.shape), dtype=dtype)
    for place, block in zip(batch.numpy(), blocks, strict=True):
        place[...] = block
    return batch
